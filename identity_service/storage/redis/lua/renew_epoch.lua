-- Gives the log a new epoch, if it still has the one that the caller found: processes then read the log again
-- from the start and repair it. Entries up to the current end may be missing from then on (the floor), and
-- the mark stays until a rebuild has completed the log from the state. The entries that are there are counted
-- again; the count of generations never decreases, so that the rebuild detects whether one is lost for good.
-- KEYS: head, log, generations, head of version 0.1.0
-- ARGV: epoch found ('' = none), new epoch, link of the end if the last entry is gone, text for the head of
-- version 0.1.0
-- Returns the epoch that the log has now · Errors: IDN_UNINITIALIZED (the epoch was lost meanwhile)
local head = head_at(KEYS[1])
if head and head[9] then return unwritable(head) end
if head and head[1] ~= ARGV[1] then return head[1] end
if not head and (ARGV[1] ~= '' or redis.call('EXISTS', '{idn}:copy') == 1) then return no_head() end
local position, link = head and tonumber(head[2]) or 0, ARGV[3]
if redis.call('EXISTS', KEYS[2]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[2])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      position = math.max(position, tonumber(string.match(info[i + 1], '^(%d+)')))
    end
  end
  local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
  if last and last[1] == string.format('%d-0', position) then link = last[2][2] end
end
if position == 0 then link = '' end
local place = string.format('%d', position)
local raised = math.max(head and tonumber(head[7]) or 0, redis.call('HLEN', KEYS[3]))
redis.call('SET', KEYS[4], ARGV[4])
redis.call('HSET', KEYS[1], 'format', '2', 'epoch', ARGV[2], 'position', place, 'link', link, 'floor', place,
  'kept', redis.call('XLEN', KEYS[2]), 'raised', string.format('%d', raised), 'incomplete', '1')
return ARGV[2]

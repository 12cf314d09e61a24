-- Gives the log a new epoch, if it still has the one that the caller found: readers start over and put
-- back what is missing. Up to the end of this moment entries may be missing from then on (the floor), and the
-- mark stands until a rebuild has put back what the state holds. Of the entries those are counted that are
-- there; the count of generations never goes down, so that the rebuild sees whether one is lost for good.
-- KEYS: head, log, generations, what older versions take for the head
-- ARGV: epoch found ('' = none), new epoch, link to end with where the last entry is gone,
--       what they shall find
-- answers the epoch that holds now · refuses: IDN_UNINITIALIZED (the epoch was lost meanwhile)
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

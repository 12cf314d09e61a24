-- Writes the heartbeat of a process, raises the high-water marks, and returns the head. Does not check the
-- epoch.
-- KEYS: head, heartbeat of the process ("<time> <status>"), log, all heartbeats (sorted set: process by
-- time), generations
-- ARGV: now, seconds to keep the heartbeat, process, status, then the marks to raise: retention, longest
-- lifetime, session and leeway in seconds, latest steady time or ''
-- Returns the head, see `head_reply`; whole = 0 if log or state do not hold as much as the head counts.
local head = head_at(KEYS[1])
local no = unwritable(head)
if no then return no end
local now = now_or(ARGV[1])
redis.call('SET', KEYS[2], now .. ' ' .. ARGV[4], 'EX', ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', string.format('%.6f', tonumber(now) - tonumber(ARGV[2])))
redis.call('ZADD', KEYS[4], now, ARGV[3])
for i, name in ipairs({'retention', 'lifetime', 'session', 'leeway', 'time'}) do
  local wanted, held = ARGV[4 + i], redis.call('HGET', KEYS[1], name)
  if held then number_in(KEYS[1], name, held) end
  if wanted ~= '' and tonumber(wanted) > tonumber(held or '0') then redis.call('HSET', KEYS[1], name, wanted) end
end
local latest = redis.call('HGET', KEYS[1], 'latest')
if latest then number_in(KEYS[1], 'latest', latest) end
if tonumber(now) > tonumber(latest or '0') then redis.call('HSET', KEYS[1], 'latest', now) end
return head_reply(KEYS[1], now, is_whole(head, KEYS[3], KEYS[5]))

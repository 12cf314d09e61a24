-- Writes the heartbeat of a process, under whatever epoch, and answers the head.
-- KEYS: head, beat of the process, log · ARGV: now, seconds to keep the beat, retention in seconds
-- answers {epoch, position, link, now, floor, retention, whole}; whole = 0 where entries are gone from
-- the log that its head still counts.
local head = head_at(KEYS[1])
if not head then return redis.error_reply('IDN_UNINITIALIZED') end
local now, floor, retention = now_or(ARGV[1]), head[4] or '0', head[5] or '0'
redis.call('SET', KEYS[2], now, 'EX', ARGV[2])
if tonumber(ARGV[3]) > tonumber(retention) then
  retention = ARGV[3]
  redis.call('HSET', KEYS[1], 'retention', retention)
end
local whole = 1
if tonumber(head[2]) > tonumber(floor) then
  local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
  local length = redis.call('XLEN', KEYS[3])
  if not last or last[1] ~= head[2] .. '-0' or length < tonumber(head[2]) - tonumber(floor) then whole = 0 end
end
return {head[1], head[2], head[3], now, floor, retention, whole}

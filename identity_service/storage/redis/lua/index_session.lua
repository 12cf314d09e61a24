-- Puts a session into the lists of its subject and of its client. Lists of what has ended shrink on the way.
-- They keep what ended within the last day.
-- KEYS: a list (sorted set: session id by end), … · ARGV: now, session id, end
-- answers how many lists.
local now = tonumber(now_or(ARGV[1]))
for _, list in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', list, '-inf', string.format('%.6f', now - a_day))
  redis.call('ZADD', list, ARGV[3], ARGV[2])
  redis.call('EXPIREAT', list, forget_at(redis.call('ZRANGE', list, -1, -1, 'WITHSCORES')[2]))
end
return #KEYS

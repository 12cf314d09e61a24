-- Puts a session into the lists of its subject and of its client. Lists of what has ended shrink on the way.
-- They keep what ended within the last day.
-- A sign-in is answered after this: in a cluster it is what refuses one that began before the store was moved.
-- KEYS: head, a list (sorted set: session id by end), … · ARGV: now, session id, end
-- answers how many lists.
local no = moved(table.remove(KEYS, 1))
if no then return no end
local now = tonumber(now_or(ARGV[1]))
for _, list in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', list, '-inf', string.format('%.6f', now - a_day))
  redis.call('ZADD', list, ARGV[3], ARGV[2])
  redis.call('EXPIREAT', list, forget_at(redis.call('ZRANGE', list, -1, -1, 'WITHSCORES')[2]))
end
return #KEYS

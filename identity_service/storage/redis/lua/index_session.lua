-- Puts a session into the lists of its subject and its client, and removes sessions from them that ended more
-- than a day ago. A sign-in succeeds only after this script: in a cluster it refuses a sign-in that began
-- before the store was moved.
-- KEYS: head, then lists (sorted set: session id by end) · ARGV: now, session id, end
-- Returns the number of lists.
local no = moved(table.remove(KEYS, 1))
if no then return no end
local now = tonumber(now_or(ARGV[1]))
for _, list in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', list, '-inf', string.format('%.6f', now - a_day))
  redis.call('ZADD', list, ARGV[3], ARGV[2])
  redis.call('EXPIREAT', list, forget_at(redis.call('ZRANGE', list, -1, -1, 'WITHSCORES')[2]))
end
return #KEYS

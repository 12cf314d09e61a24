-- Returns a session and everything that may forbid to refresh it, read atomically, in one round trip. Reads
-- the records that the session names without declaring their keys, which is correct only on a single server.
-- KEYS: session, end of the session, generations
-- ARGV: now, prefix of users' keys, prefix of clients' keys, the principal of everyone
-- Returns {now, version, value, expire, mark, end, user, client, generations of everyone, subject, client},
-- or {now} if there is no such session.
local now = now_or(ARGV[1])
local held = redis.call('HMGET', KEYS[1], 'v', 'd', 'expire', 'sub', 'client', 'ended')
if not held[1] then return {now} end
local generations = redis.call('HMGET', KEYS[3], ARGV[4], held[4], held[5])
return {now, held[1], held[2], held[3], held[6], redis.call('GET', KEYS[2]),
  redis.call('HGET', ARGV[2] .. held[4], 'value'), redis.call('HGET', ARGV[3] .. held[5], 'value'),
  generations[1], generations[2], generations[3]}

-- Returns everything that may forbid to refresh a session, read atomically; the session is on another server.
-- KEYS: end of the session, generations, user, client · ARGV: now, the principal of everyone, subject, client
-- id
-- Returns {now, end, user, client, generations of everyone, subject, client}.
local generations = redis.call('HMGET', KEYS[2], ARGV[2], ARGV[3], ARGV[4])
return {now_or(ARGV[1]), redis.call('GET', KEYS[1]),
  redis.call('HGET', KEYS[3], 'value'), redis.call('HGET', KEYS[4], 'value'),
  generations[1], generations[2], generations[3]}

-- Everything that may forbid to refresh a session, of one moment; the session lies elsewhere.
-- KEYS: end of the session, generations, user, client · ARGV: now, everyone, subject, client id
-- answers {now, end, user, client, generations of everyone, subject, client}.
local generations = redis.call('HMGET', KEYS[2], ARGV[2], ARGV[3], ARGV[4])
return {now_or(ARGV[1]), redis.call('GET', KEYS[1]),
  redis.call('HGET', KEYS[3], 'value'), redis.call('HGET', KEYS[4], 'value'),
  generations[1], generations[2], generations[3]}

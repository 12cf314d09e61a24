-- Writes a session of a copy in a cluster, where it may be on another server than `{idn}`.
-- KEYS: session · ARGV: value, end, subject, client
-- Returns 1.
redis.call('HSET', KEYS[1], 'v', '1', 'd', ARGV[1], 'expire', ARGV[2], 'sub', ARGV[3], 'client', ARGV[4])
redis.call('EXPIREAT', KEYS[1], forget_at(ARGV[2]))
return 1

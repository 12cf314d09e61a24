-- Takes sessions that are over out of a list.
-- KEYS: list · ARGV: session id, …
-- answers how many were in it.
return redis.call('ZREM', KEYS[1], unpack(ARGV))

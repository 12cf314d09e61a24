-- Removes sessions that are over from a list.
-- KEYS: list · ARGV: session id, …
-- Returns how many sessions were removed.
return redis.call('ZREM', KEYS[1], unpack(ARGV))

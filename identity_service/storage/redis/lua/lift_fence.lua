-- Removes the fence: writes are accepted again.
-- KEYS: head · ARGV: the only fence (JSON) that may be removed; none = any
-- Returns the number of fences removed, 0 or 1.
if ARGV[1] and redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
return redis.call('HDEL', KEYS[1], 'fence')

-- Lifts the fence: writes are taken again.
-- KEYS: head · ARGV: the only fence (JSON) that may be lifted; none = any
-- answers how many fences there were.
if ARGV[1] and redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
return redis.call('HDEL', KEYS[1], 'fence')

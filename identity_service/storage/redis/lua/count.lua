-- Adds to a counter; the first addition begins the time after which it is forgotten. Touches no log.
-- KEYS: counter · ARGV: amount, seconds
-- answers the count.
local count = redis.call('INCRBY', KEYS[1], ARGV[1])
if redis.call('TTL', KEYS[1]) < 0 then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return count

-- Lifts the fence: writes are taken again.
-- KEYS: head
-- answers how many fences there were.
return redis.call('HDEL', KEYS[1], 'fence')

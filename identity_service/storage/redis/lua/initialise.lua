-- Gives a store without an epoch its own.
-- KEYS: head · ARGV: epoch · answers 1, or 0 where there is one already.
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'position', '0', 'link', '')
return 1

-- Gives a virgin store its epoch.
-- KEYS: head, log · ARGV: epoch
-- answers 1 · refuses: IDN_INITIALIZED (it has one), IDN_HEADLESS (it has a log that lost its own)
if redis.call('EXISTS', KEYS[1]) == 1 then return redis.error_reply('IDN_INITIALIZED') end
if redis.call('EXISTS', KEYS[2]) == 1 then return redis.error_reply('IDN_HEADLESS') end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'position', '0', 'link', '')
return 1

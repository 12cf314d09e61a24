-- Gives a virgin store its epoch.
-- KEYS: head, then what no virgin store has: log, generations, index of the keys · ARGV: epoch
-- answers 1 · refuses: IDN_INITIALIZED (it has one), IDN_HEADLESS (it lost its own)
if redis.call('EXISTS', KEYS[1]) == 1 then return redis.error_reply('IDN_INITIALIZED') end
for i = 2, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then return redis.error_reply('IDN_HEADLESS') end
end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'position', '0', 'link', '', 'kept', '0', 'raised', '0')
return 1

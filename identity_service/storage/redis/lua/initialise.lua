-- Gives an empty store its epoch.
-- KEYS: head, head of version 0.1.0, then keys that no empty store has: log, generations, index of the
-- signing keys
-- ARGV: epoch, text for the head of version 0.1.0
-- Returns 1 · Errors: IDN_INITIALIZED (the store has an epoch), IDN_HEADLESS (it has lost its epoch),
-- IDN_UNFINISHED (there is an unfinished copy into it)
if redis.call('EXISTS', KEYS[1]) == 1 then return moved(KEYS[1]) or redis.error_reply('IDN_INITIALIZED') end
if redis.call('EXISTS', '{idn}:copy') == 1 then return no_head() end
for i = 3, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then return redis.error_reply('IDN_HEADLESS') end
end
redis.call('SET', KEYS[2], ARGV[2])
redis.call('HSET', KEYS[1], 'format', '2', 'epoch', ARGV[1], 'position', '0', 'link', '', 'kept', '0', 'raised', '0')
return 1

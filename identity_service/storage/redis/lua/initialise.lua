-- Gives a virgin store its epoch.
-- KEYS: head, what older versions take for the head, then what no virgin store has: log, generations, index of
--       the keys
-- ARGV: epoch, what older versions shall find
-- answers 1 · refuses: IDN_INITIALIZED (it has one), IDN_HEADLESS (it lost its own),
--       IDN_UNFINISHED (a copy into it was not finished)
if redis.call('EXISTS', KEYS[1]) == 1 then return moved(KEYS[1]) or redis.error_reply('IDN_INITIALIZED') end
if redis.call('EXISTS', '{idn}:copy') == 1 then return no_head() end
for i = 3, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then return redis.error_reply('IDN_HEADLESS') end
end
redis.call('SET', KEYS[2], ARGV[2])
redis.call('HSET', KEYS[1], 'format', '2', 'epoch', ARGV[1], 'position', '0', 'link', '', 'kept', '0', 'raised', '0')
return 1

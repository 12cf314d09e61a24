-- Begins a copy into this store: from now on there is no head, and the mark says why. Where the store is to be
-- replaced, all its other keys are deleted after this.
-- KEYS: head, mark of the copy, what older versions take for the head, then what no virgin store has: log,
--       generations, index of the keys
-- ARGV: name of the copy, '1' to replace what is there, what older versions shall find
-- answers 1 · refuses: IDN_INITIALIZED (there is a head), IDN_HEADLESS (there was one), IDN_UNFINISHED
if ARGV[2] ~= '1' then
  if redis.call('EXISTS', KEYS[1]) == 1 then return redis.error_reply('IDN_INITIALIZED') end
  if redis.call('EXISTS', KEYS[2]) == 1 then return no_head() end
  for i = 4, #KEYS do
    if redis.call('EXISTS', KEYS[i]) == 1 then return redis.error_reply('IDN_HEADLESS') end
  end
end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[2], ARGV[1])
redis.call('SET', KEYS[3], ARGV[3])
return 1

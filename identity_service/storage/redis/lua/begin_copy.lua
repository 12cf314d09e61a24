-- Begins a copy into this store: removes the head and sets the mark that says why. If the store is to be
-- replaced, its other keys are deleted after this.
-- KEYS: head, mark of the copy, head of version 0.1.0, then keys that no empty store has: log, generations,
-- index of the signing keys
-- ARGV: name of the copy, '1' to replace the present contents, text for the head of version 0.1.0
-- Returns 1 · Errors: IDN_INITIALIZED (there is a head), IDN_HEADLESS (the head was lost), IDN_UNFINISHED
-- (there is another unfinished copy)
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

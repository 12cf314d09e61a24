-- Takes the mark of an unfinished copy away, after everything else of it is gone: the store is virgin then.
-- KEYS: head, mark of the copy, what older versions take for the head
-- answers 1 · refuses: IDN_INITIALIZED (there is a head)
if redis.call('EXISTS', KEYS[1]) == 1 then return redis.error_reply('IDN_INITIALIZED') end
redis.call('DEL', KEYS[2], KEYS[3])
return 1

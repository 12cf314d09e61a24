-- Takes an unfinished copy from the command that writes it, which is refused from now on: it is about to be deleted.
-- KEYS: head, mark of the copy · ARGV: new name of the copy
-- answers 1, or 0 if there is none · refuses: IDN_INITIALIZED (there is a head)
if redis.call('EXISTS', KEYS[1]) == 1 then return redis.error_reply('IDN_INITIALIZED') end
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
redis.call('SET', KEYS[2], ARGV[1])
return 1

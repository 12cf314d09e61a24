-- Renames an unfinished copy, so that the command that writes it is refused from now on; its keys are deleted
-- next.
-- KEYS: head, mark of the copy · ARGV: new name of the copy
-- Returns 1, or 0 if there is no unfinished copy · Errors: IDN_INITIALIZED (there is a head)
if redis.call('EXISTS', KEYS[1]) == 1 then return redis.error_reply('IDN_INITIALIZED') end
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
redis.call('SET', KEYS[2], ARGV[1])
return 1

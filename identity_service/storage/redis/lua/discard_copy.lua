-- Takes the mark of an unfinished copy away, after everything else of it is gone: the store is virgin then.
-- KEYS: head, mark of the copy, what older versions take for the head · ARGV: name of the copy
-- answers 1 · refuses: IDN_INITIALIZED (there is a head), IDN_COPY (another copy has begun)
if redis.call('EXISTS', KEYS[1]) == 1 then return redis.error_reply('IDN_INITIALIZED') end
local held = redis.call('GET', KEYS[2])
if held and held ~= ARGV[1] then return redis.error_reply('IDN_COPY') end
redis.call('DEL', KEYS[2], KEYS[3])
return 1

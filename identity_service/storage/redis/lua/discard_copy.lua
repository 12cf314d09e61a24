-- Removes the mark of an unfinished copy after all other keys of the copy were deleted, so that the store is
-- empty.
-- KEYS: head, mark of the copy, head of version 0.1.0 · ARGV: name of the copy
-- Returns 1 · Errors: IDN_INITIALIZED (there is a head), IDN_COPY (another copy has begun)
if redis.call('EXISTS', KEYS[1]) == 1 then return redis.error_reply('IDN_INITIALIZED') end
local held = redis.call('GET', KEYS[2])
if held and held ~= ARGV[1] then return redis.error_reply('IDN_COPY') end
redis.call('DEL', KEYS[2], KEYS[3])
return 1

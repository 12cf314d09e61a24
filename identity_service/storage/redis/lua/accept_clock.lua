-- Sets the latest steady time back to a given time, as an operator has decided. Does not check the epoch.
-- KEYS: head · ARGV: now, time
-- Returns the head, see `head_reply`.
local no = unwritable(head_at(KEYS[1]))
if no then return no end
redis.call('HSET', KEYS[1], 'time', ARGV[2], 'latest', ARGV[2])
return head_reply(KEYS[1], now_or(ARGV[1]), 1)

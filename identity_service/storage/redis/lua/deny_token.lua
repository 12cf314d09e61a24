-- Denies a token id until a time.
-- KEYS: head, log, generations, denial of the id · ARGV: epoch, now, until, change (its JSON up to the time), link
-- Returns {position, link, until} of the entry that holds the denial.
local head = head_at(KEYS[1])
local no = refused(head, ARGV[1])
if no then return no end
local position, link, until_ = deny(KEYS[1], KEYS[2], head, KEYS[4], ARGV[3], ARGV[4], ARGV[5], now_or(ARGV[2]))
return {position, link, until_}

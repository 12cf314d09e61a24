-- Returns the epoch for a write to another server of a cluster, and the time for it.
-- KEYS: head · ARGV: now
-- Returns {epoch, now}. Refuses like a write, since a write follows.
local head = head_at(KEYS[1])
local no = unwritable(head)
if no then return no end
return {head[1], now_or(ARGV[1])}

-- Which log this is, for writes that lie elsewhere in a cluster, and the time by which they go.
-- KEYS: head · ARGV: now
-- answers {epoch, now}. Refuses as a write does, since one follows.
local head = head_at(KEYS[1])
local no = unwritable(head)
if no then return no end
return {head[1], now_or(ARGV[1])}

-- Which log this is, for writes that lie elsewhere in a cluster, and the time by which they go.
-- KEYS: head · ARGV: now
-- answers {epoch, now}.
local head = head_at(KEYS[1])
if not head then return redis.error_reply('IDN_UNINITIALIZED') end
return {head[1], now_or(ARGV[1])}

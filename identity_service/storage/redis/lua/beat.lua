-- Writes the heartbeat of a process, under whatever epoch, and answers the head.
-- KEYS: head, beat of the process · ARGV: now, seconds to keep it
-- answers {epoch, position, link, now}.
local head = head_at(KEYS[1])
if not head then return redis.error_reply('IDN_UNINITIALIZED') end
local now = now_or(ARGV[1])
redis.call('SET', KEYS[2], now, 'EX', ARGV[2])
return {head[1], head[2], head[3], now}

-- Entries after a position, and the head of the same moment.
-- KEYS: head, log · ARGV: now, after, limit (0 = the head alone)
-- answers {head, see `head_reply`, {entry, …}}, an entry as XRANGE gives it.
local head = head_at(KEYS[1])
if not head then return redis.error_reply('IDN_UNINITIALIZED') end
local entries = {}
if ARGV[3] ~= '0' then
  entries = redis.call('XRANGE', KEYS[2], '(' .. ARGV[2] .. '-0', '+', 'COUNT', ARGV[3])
end
return {head_reply(KEYS[1], now_or(ARGV[1]), 1), entries}

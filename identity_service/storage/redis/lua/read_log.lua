-- Entries after a position, and the head of the same moment.
-- KEYS: head, log, generations · ARGV: now, after, limit (0 = the head alone, with whether it is whole)
-- answers {head, see `head_reply`, {entry, …}}, an entry as XRANGE gives it.
local head = head_at(KEYS[1])
if not head then return no_head() end
local entries, whole = {}, 1
if ARGV[3] == '0' then
  whole = is_whole(head, KEYS[2], KEYS[3])
else
  entries = redis.call('XRANGE', KEYS[2], '(' .. ARGV[2] .. '-0', '+', 'COUNT', ARGV[3])
end
return {head_reply(KEYS[1], now_or(ARGV[1]), whole), entries}

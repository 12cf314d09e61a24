-- Returns the entries after a position, and the head, read atomically.
-- KEYS: head, log, generations
-- ARGV: now, after, limit (0 = the head alone, with the check whether log and state are whole)
-- Returns {head, see `head_reply`, {entry, …}}, each entry as XRANGE returns it.
local head = head_at(KEYS[1])
if not head then return no_head() end
local entries, whole = {}, 1
if ARGV[3] == '0' then
  whole = is_whole(head, KEYS[2], KEYS[3])
else
  entries = redis.call('XRANGE', KEYS[2], '(' .. ARGV[2] .. '-0', '+', 'COUNT', ARGV[3])
end
return {head_reply(KEYS[1], now_or(ARGV[1]), whole), entries}

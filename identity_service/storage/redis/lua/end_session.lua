-- Ends a session.
-- KEYS: head, log, end of the session
-- ARGV: epoch, now, deny-until, end-until, change (its JSON up to the first time), link
-- answers {position, link, deny-until, end-until} of the entry that holds it.
local head = head_at(KEYS[1])
local no = refused(head, ARGV[1])
if no then return no end
local position, link, deny_until, end_until = end_session(
  KEYS[1], KEYS[2], head, KEYS[3], ARGV[3], ARGV[4], ARGV[5], ARGV[6], now_or(ARGV[2]))
return {position, link, deny_until, end_until}

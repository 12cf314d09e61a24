-- Ends a session, and marks its record if it is on this server: the loss of one key then does not revive the
-- session.
-- KEYS: head, log, generations, end of the session, session (absent in a cluster: see `mark_session`)
-- ARGV: epoch, now, deny-until, end-until, change (its JSON up to the first time), link
-- Returns {position, link, deny-until, end-until} of the entry that holds it; end-until is never before the
-- session's own end.
local head = head_at(KEYS[1])
local no = refused(head, ARGV[1])
if no then return no end
local end_until, own = ARGV[4], KEYS[5] and redis.call('HGET', KEYS[5], 'expire')
if own and tonumber(own) > tonumber(end_until) then end_until = own end
local position, link, deny_until, held_until = end_session(
  KEYS[1], KEYS[2], head, KEYS[4], ARGV[3], end_until, ARGV[5], ARGV[6], now_or(ARGV[2]))
if own then redis.call('HSET', KEYS[5], 'ended', '1') end
return {position, link, deny_until, held_until}

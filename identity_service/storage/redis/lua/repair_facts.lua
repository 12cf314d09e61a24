-- Appends those of some facts that are absent: the state lacks them, or their entry is gone from the log.
-- KEYS: head, log, generations
-- ARGV: epoch, now, prefix of denials, prefix of ends of sessions, then the facts, as `repair_facts` takes them
-- Returns {position and link of the end of the log, how many were appended}.
local head = head_at(KEYS[1])
local no = refused(head, ARGV[1])
if no then return no end
local appended = repair_facts(head, ARGV[3], ARGV[4], 5, now_or(ARGV[2]))
-- Always written, so that WAIT or WAITAOF covers a write of this call.
redis.call('HSET', KEYS[1], 'link', head[3])
return {head[2], head[3], appended}

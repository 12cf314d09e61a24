-- Fences the store: all later writes are refused. A fence with the same target is replaced.
-- KEYS: head · ARGV: fence (JSON), its target
-- Returns 1 · Errors: IDN_FENCED (there is a fence with another target)
local head = head_at(KEYS[1])
if not head then return no_head() end
if head[9] and cjson.decode(head[9]).target ~= ARGV[2] then return unwritable(head) end
redis.call('HSET', KEYS[1], 'fence', ARGV[1])
return 1

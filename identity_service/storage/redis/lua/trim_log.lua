-- Removes the entries up to a position, if the entry there is older than the retention by the server's clock.
-- Facts of these entries that still count are appended again in the same step.
-- KEYS: head, log, generations
-- ARGV: epoch, now, position, prefix of denials, prefix of ends of sessions, then the facts, as `repair_facts`
-- takes them
-- Returns the floor: the position up to which entries may be missing.
local head = head_at(KEYS[1])
local no = refused(head, ARGV[1])
if no then return no end
local floor, position = head[4] or '0', tonumber(ARGV[3])
if not head[5] or position >= tonumber(head[2]) or position <= tonumber(floor) then return floor end
local entry = redis.call('XRANGE', KEYS[2], ARGV[3] .. '-0', ARGV[3] .. '-0')[1]
if not entry or tonumber(entry[2][6]) + tonumber(head[5]) > tonumber(now_or(ARGV[2])) then return floor end
local gone = redis.call('XTRIM', KEYS[2], 'MINID', string.format('%d-0', position + 1))
head[4], head[6] = ARGV[3], string.format('%d', tonumber(head[6]) - gone)
redis.call('HSET', KEYS[1], 'floor', head[4], 'kept', head[6])
repair_facts(head, ARGV[4], ARGV[5], 6, now_or(ARGV[2]))
return ARGV[3]

-- Upgrades a store of version 0.1.0 in one step: counts entries and generations, sets the mark, and replaces
-- the old head with a text, so that every command of a process of that version fails.
-- KEYS: head, head of version 0.1.0, log, generations · ARGV: text for the head of version 0.1.0
-- Returns 1, or 0 if there is nothing to upgrade.
if redis.call('EXISTS', KEYS[1]) == 1 or redis.call('TYPE', KEYS[2]).ok ~= 'hash' then return 0 end
local head = redis.call('HMGET', KEYS[2], 'epoch', 'position', 'link', 'floor', 'retention')
if not head[1] then return 0 end
number_in(KEYS[2], 'position', head[2])
-- The lifetime of tokens follows from the retention of the log, which was the lifetime and 600 s.
local lifetime = math.max(0, (tonumber(head[5] or '0') or 0) - 600)
redis.call('HSET', KEYS[1], 'format', '2', 'epoch', head[1], 'position', head[2], 'link', head[3] or '',
  'floor', head[4] or '0', 'retention', head[5] or '0', 'lifetime', string.format('%.6f', lifetime),
  'kept', redis.call('XLEN', KEYS[3]), 'raised', redis.call('HLEN', KEYS[4]), 'incomplete', '1')
redis.call('SET', KEYS[2], ARGV[1])
return 1

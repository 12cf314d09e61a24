-- Brings a store of version 0.1.0 up to date in one step: counts what is there, sets the mark, and puts a text
-- into the place of the old head, so that a process of that version fails with everything that it asks.
-- KEYS: head, head of 0.1.0, log, generations · ARGV: what older versions shall find
-- answers 1, or 0 if there is nothing to upgrade.
if redis.call('EXISTS', KEYS[1]) == 1 or redis.call('TYPE', KEYS[2]).ok ~= 'hash' then return 0 end
local head = redis.call('HMGET', KEYS[2], 'epoch', 'position', 'link', 'floor', 'retention')
if not head[1] then return 0 end
number_in(KEYS[2], 'position', head[2])
-- How long tokens lived is known from how far back the log had to reach.
local lifetime = math.max(0, (tonumber(head[5] or '0') or 0) - 600)
redis.call('HSET', KEYS[1], 'format', '2', 'epoch', head[1], 'position', head[2], 'link', head[3] or '',
  'floor', head[4] or '0', 'retention', head[5] or '0', 'lifetime', string.format('%.6f', lifetime),
  'kept', redis.call('XLEN', KEYS[3]), 'raised', redis.call('HLEN', KEYS[4]), 'incomplete', '1')
redis.call('SET', KEYS[2], ARGV[1])
return 1

-- Deletes a record and, if asked to, raises the generation of its principal in the same step.
-- KEYS: head, log, generations, record, index of its kind, names of its kind
-- ARGV: epoch, now, id, expected revision ('' = any), change, link, then to raise: above, change up to the
-- number, link
-- Returns {position} or {position, number} · Errors: IDN_MISSING, IDN_STALE
local head = head_at(KEYS[1])
local no = refused(head, ARGV[1])
if no then return no end
local found = redis.call('HMGET', KEYS[4], 'revision', 'names', 'username')
if not found[1] then return redis.error_reply('IDN_MISSING') end
if ARGV[4] ~= '' and found[1] ~= ARGV[4] then return redis.error_reply('IDN_STALE') end
local now = now_or(ARGV[2])
if ARGV[7] then generation_at(KEYS[3], ARGV[3]) end -- all checks come before the first write
local position, number = append(KEYS[1], KEYS[2], head, ARGV[6], now, ARGV[5]), nil
if ARGV[7] then
  number, position = raise(KEYS[1], KEYS[2], KEYS[3], head, ARGV[3], ARGV[7], ARGV[8], ARGV[9], now)
end
redis.call('DEL', KEYS[4])
redis.call('ZREM', KEYS[5], ARGV[3])
for _, name in ipairs(names_of(found[2], found[3])) do redis.call('HDEL', KEYS[6], name) end
return {position, number}

-- Deletes a record, and where asked raises its principal's generation in the same step.
-- KEYS: head, log, generations, record, index of its kind, usernames
-- ARGV: epoch, now, id, change, link, then to raise: above, change up to the number, link
-- answers {position} or {position, number} · refuses: IDN_MISSING
local head = head_at(KEYS[1])
local no = refused(head, ARGV[1])
if no then return no end
local found = redis.call('HMGET', KEYS[4], 'revision', 'username')
if not found[1] then return redis.error_reply('IDN_MISSING') end
local now = now_or(ARGV[2])
local position, number = append(KEYS[1], KEYS[2], head, ARGV[5], now, ARGV[4]), nil
if ARGV[6] then
  number, position = raise(KEYS[1], KEYS[2], KEYS[3], head, ARGV[3], ARGV[6], ARGV[7], ARGV[8], now)
end
redis.call('DEL', KEYS[4])
redis.call('ZREM', KEYS[5], ARGV[3])
if found[2] and found[2] ~= '' then redis.call('HDEL', KEYS[6], found[2]) end
return {position, number}

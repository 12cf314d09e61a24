-- Creates or replaces a record and, if asked to, raises the generation of its principal in the same step.
-- KEYS: head, log, generations, record, index of its kind, names of its kind (hash: name → id), then for a
-- new record the keys that must not exist
-- ARGV: epoch, now, id, value, names (a list as JSON), expected revision ('' = it must be new), change, link,
-- then to raise: above, change up to the number, link
-- Returns {position} or {position, number} · Errors: IDN_EXISTS, IDN_NAME, IDN_MISSING, IDN_STALE
local head = head_at(KEYS[1])
local no = refused(head, ARGV[1])
if no then return no end
local id, names = ARGV[3], ARGV[5]
local held = redis.call('HMGET', KEYS[4], 'revision', 'names', 'username')
if ARGV[6] == '' then
  for i = 7, #KEYS do
    if redis.call('EXISTS', KEYS[i]) == 1 then return redis.error_reply('IDN_EXISTS') end
  end
else
  if not held[1] then return redis.error_reply('IDN_MISSING') end
  if held[1] ~= ARGV[6] then return redis.error_reply('IDN_STALE') end
end
for _, name in ipairs(cjson.decode(names)) do
  local holder = redis.call('HGET', KEYS[6], name)
  if holder and holder ~= id then return redis.error_reply('IDN_NAME') end
end
local now = now_or(ARGV[2])
if ARGV[9] then generation_at(KEYS[3], id) end -- all checks come before the first write
local position, number = append(KEYS[1], KEYS[2], head, ARGV[8], now, ARGV[7]), nil
if ARGV[9] then
  number, position = raise(KEYS[1], KEYS[2], KEYS[3], head, id, ARGV[9], ARGV[10], ARGV[11], now)
end
for _, name in ipairs(names_of(held[2], held[3])) do redis.call('HDEL', KEYS[6], name) end
for _, name in ipairs(cjson.decode(names)) do redis.call('HSET', KEYS[6], name, id) end
redis.call('HSET', KEYS[4], 'value', ARGV[4], 'names', names, 'revision', head[1] .. '.' .. position .. '.' .. head[3])
redis.call('ZADD', KEYS[5], 0, id)
return {position, number}

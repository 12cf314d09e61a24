-- Writes items of a copy. Times of facts and generations only grow, and the last item of a record counts.
-- Writes keys that it does not declare, all with the same hash tag; it writes sessions only if all keys are
-- on one server.
-- KEYS: head, mark of the copy
-- ARGV: name of the copy, then the prefixes of keys: of denials, of ends of sessions, of records, of used
-- values, of lists of sessions, of indexes; the key of the generations; how many audit events of changes and
-- of traffic to keep; then the items, each of them:
--   'gen', principal, number, link, new link (used if another log has raised to the same number)
--   'deny', id, until
--   'end', id, deny-until, end-until
--   'record', kind, id, value, names (a list as JSON), hash of the names
--   'gone', kind, id, hash of the names
--   'use', name, until
--   'list', principal, session id, end
--   'session', key, value, end, subject, client
--   'event', '1' (a change) or '2' (traffic), time, event
-- Returns 1 · Errors: IDN_COPY (another copy has begun, or this one was finished)
if redis.call('EXISTS', KEYS[1]) == 1 or redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return redis.error_reply('IDN_COPY')
end
-- A position without an entry, so that a rebuild appends the fact to the log.
local nowhere = ARGV[1] .. '.0'
local denials, ends, records, used = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local lists, indexes, generations = ARGV[6], ARGV[7], ARGV[8]

local function later(key, place, time)
  local held = text_at(key)
  held = held and string.match(held, place)
  return held and tonumber(held) > tonumber(time) and held or time
end

local function forget_names(names_key, record_key, id)
  for _, name in ipairs(names_of(redis.call('HGET', record_key, 'names'))) do
    if redis.call('HGET', names_key, name) == id then redis.call('HDEL', names_key, name) end
  end
end

local write = {}

write.gen = function(i)
  local principal, number, link = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local held, held_link = generation_at(generations, principal)
  if tonumber(number) > held then
    redis.call('HSET', generations, principal, number .. '.' .. link)
  elseif tonumber(number) == held and link ~= held_link then
    -- Two logs have raised to the same number. The next number makes tokens issued under either of them
    -- refused.
    redis.call('HSET', generations, principal, string.format('%d', held + 1) .. '.' .. ARGV[i + 3])
  end
  return i + 4
end

write.deny = function(i)
  local key = denials .. ARGV[i]
  local until_ = later(key, '^(%S+)', ARGV[i + 1])
  redis.call('SET', key, until_ .. ' ' .. nowhere .. ' -', 'EXAT', forget_at(until_))
  return i + 2
end

write['end'] = function(i)
  local key = ends .. ARGV[i]
  local deny_until, end_until = later(key, '^(%S+)', ARGV[i + 1]), later(key, '^%S+ (%S+)', ARGV[i + 2])
  local last = tonumber(deny_until) > tonumber(end_until) and deny_until or end_until
  redis.call('SET', key, deny_until .. ' ' .. end_until .. ' ' .. nowhere .. ' -', 'EXAT', forget_at(last))
  return i + 3
end

write.record = function(i)
  local kind, id, value, names, names_key = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local key = records .. kind .. ':' .. id
  forget_names(names_key, key, id)
  -- A name that another record has goes to this later item: the other record has changed, and follows again.
  for _, name in ipairs(cjson.decode(names)) do redis.call('HSET', names_key, name, id) end
  redis.call('HSET', key, 'value', value, 'names', names, 'revision', nowhere .. '.-')
  redis.call('ZADD', indexes .. kind, 0, id)
  return i + 5
end

write.gone = function(i)
  local kind, id, names_key = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local key = records .. kind .. ':' .. id
  forget_names(names_key, key, id)
  redis.call('DEL', key)
  redis.call('ZREM', indexes .. kind, id)
  return i + 3
end

write.use = function(i)
  local key = used .. ARGV[i]
  local until_ = later(key, '^(%S+)', ARGV[i + 1])
  redis.call('SET', key, until_, 'EXAT', forget_at(until_))
  return i + 2
end

write.list = function(i)
  local key = lists .. ARGV[i]
  redis.call('ZADD', key, ARGV[i + 2], ARGV[i + 1])
  redis.call('EXPIREAT', key, forget_at(redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')[2]))
  return i + 3
end

write.session = function(i)
  local key, value, expire = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  redis.call('HSET', key, 'v', '1', 'd', value, 'expire', expire, 'sub', ARGV[i + 3], 'client', ARGV[i + 4])
  redis.call('EXPIREAT', key, forget_at(expire))
  return i + 5
end

write.event = function(i)
  local ring = tonumber(ARGV[i])
  add_event(audit_rings[ring], next_event_id(), ARGV[8 + ring], ARGV[i + 1], ARGV[i + 2])
  return i + 3
end

local i = 11
while ARGV[i] do i = write[ARGV[i]](i + 1) end
return 1

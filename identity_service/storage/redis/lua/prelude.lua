-- The functions shared by all scripts, put in front of each script before it is loaded: the epoch check, the
-- log, the facts, and the audit streams.
--
-- Times are Unix seconds as decimal text: Lua would round a number when it prints it. A refusal is an error
-- reply whose first word the caller maps to a domain error. Each script names its own under "Errors". In
-- addition, scripts that need the head return IDN_UNINITIALIZED or IDN_UNFINISHED if there is none,
-- IDN_FENCED if they write and the store was moved, and IDN_REPLACED if they expect another epoch; any script
-- may end with IDN_DAMAGED, and any that reads the head with IDN_FORMAT. Redis does not roll a failed script
-- back: so all checks come first, then the log (the commit point), then the state.

-- The key and arguments of the audit event of a mutation come after all others; see the epilogue.
local audit
if KEYS[#KEYS] == '{idn}:audit' and KEYS[1] ~= '{idn}:audit' then
  audit = {key = table.remove(KEYS), event = table.remove(ARGV), keep = table.remove(ARGV), now = table.remove(ARGV)}
end

local function now_or(given)
  if given ~= '' then return given end
  local time = redis.call('TIME')
  return time[1] .. '.' .. string.format('%06d', tonumber(time[2]))
end

-- Ends the script with an error: a key does not hold what this service wrote there. Called only before the
-- first write.
local function damaged(key, what)
  error('IDN_DAMAGED[' .. key .. '][' .. what .. ']', 0)
end

-- Ends the script unless `text`, the value of `name` in this key, is a number.
local function number_in(key, name, text)
  if not text or not string.match(text, '^%d[%d.e+-]*$') or not tonumber(text) then
    damaged(key, 'has no number as its ' .. name)
  end
end

-- Returns the value of a key of type string, or false if there is none.
local function text_at(key)
  local held = redis.pcall('GET', key)
  if type(held) == 'table' then damaged(key, 'is not a string') end
  return held
end

-- Returns the number and the link of the generation of a principal, or 0 if it was never raised.
local function generation_at(key, principal)
  local held = redis.pcall('HGET', key, principal)
  if type(held) == 'table' then damaged(key, 'is not a hash') end
  if not held then return 0, nil end
  local number, link = string.match(held, '^(%d+)%.(.+)$')
  if not number then damaged(key, 'has no generation for ' .. principal) end
  return tonumber(number), link
end

-- Returns the head as {epoch, position, link, floor, retention, number of entries, number of raised
-- principals, mark, fence}, or nil if there is none. The mark says that the log got a new epoch, and that it
-- was not completed from the state yet. The fence says where the store was moved to.
local function head_at(key)
  local head = redis.pcall('HMGET', key, 'epoch', 'position', 'link', 'floor', 'retention', 'kept', 'raised',
    'incomplete', 'fence', 'format')
  if head.err then damaged(key, 'is not a hash') end
  if not head[1] then return nil end
  if not head[10] then damaged(key, 'has no format') end
  if head[10] ~= '2' then error('IDN_FORMAT', 0) end
  for i, name in pairs({[2] = 'position', [6] = 'kept', [7] = 'raised'}) do number_in(key, name, head[i]) end
  for i, name in pairs({[4] = 'floor', [5] = 'retention'}) do
    if head[i] then number_in(key, name, head[i]) end
  end
  if not head[3] then damaged(key, 'has no link') end
  return head
end

-- Returns the head as callers take it: {epoch, position, link, now, floor, retention, whole (1 or 0),
-- complete (1 or 0), longest lifetime, session and leeway, latest steady time, latest time ('' = none)}.
local function head_reply(key, now, whole)
  local head = redis.call('HMGET', key, 'epoch', 'position', 'link', 'floor', 'retention', 'incomplete',
    'lifetime', 'session', 'leeway', 'time', 'latest')
  return {head[1], head[2], head[3], now, head[4] or '0', head[5] or '0', whole, head[6] and 0 or 1,
    head[7] or '0', head[8] or '0', head[9] or '0', head[10] or '', head[11] or ''}
end

-- Returns 1 if log and state hold as much as the head counts, else 0. While the mark is set, generations may
-- be missing.
local function is_whole(head, log_key, gen_key)
  local length, raised = redis.pcall('XLEN', log_key), redis.pcall('HLEN', gen_key)
  if type(length) == 'table' then damaged(log_key, 'is not a stream') end
  if type(raised) == 'table' then damaged(gen_key, 'is not a hash') end
  if length ~= tonumber(head[6]) then return 0 end
  -- An entry that another program added and removed again: this service could not append at that position.
  if redis.call('EXISTS', log_key) == 1 then
    local info = redis.call('XINFO', 'STREAM', log_key)
    for i = 1, #info, 2 do
      local last_id = info[i] == 'last-generated-id' and tonumber(string.match(info[i + 1], '^%d+'))
      if last_id and last_id > tonumber(head[2]) then return 0 end
    end
  end
  if not head[8] and raised ~= tonumber(head[7]) then return 0 end
  if tonumber(head[2]) > tonumber(head[4] or '0') then
    local last = redis.call('XREVRANGE', log_key, '+', '-', 'COUNT', 1)[1]
    if not last or last[1] ~= head[2] .. '-0' then return 0 end
  end
  return 1
end

-- The two streams of audit events: of changes, and of traffic.
local audit_rings = {'{idn}:audit', '{idn}:audit:traffic'}

-- Returns the id for the next audit event of either kind. It is above every id in both streams, so that
-- readers follow both by one id, even if the clock of this server is behind that of the previous primary.
local event_ms, event_seq
local function next_event_id()
  if event_ms then
    event_seq = event_seq + 1
    return string.format('%.0f-%.0f', event_ms, event_seq)
  end
  local time = redis.call('TIME')
  local ms, seq = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000), 0
  for _, key in ipairs(audit_rings) do
    local last = redis.pcall('XREVRANGE', key, '+', '-', 'COUNT', 1)
    if last.err then damaged(key, 'is not a stream') end
    if last[1] then
      local last_ms, last_seq = string.match(last[1][1], '^(%d+)-(%d+)$')
      last_ms, last_seq = tonumber(last_ms), tonumber(last_seq)
      if last_ms > ms or (last_ms == ms and last_seq >= seq) then ms, seq = last_ms, last_seq + 1 end
    end
  end
  event_ms, event_seq = ms, seq
  return string.format('%.0f-%.0f', ms, seq)
end

-- Appends an audit event with this id, and trims its stream to about the newest `keep` entries.
local function add_event(key, id, keep, time, event)
  -- If the last entries of a stream were deleted by hand, XADD requires an id above theirs.
  local added = redis.pcall('XADD', key, 'MAXLEN', '~', keep, id, 'time', time, 'event', event)
  if type(added) == 'table' then
    redis.call('XADD', key, 'MAXLEN', '~', keep, '*', 'time', time, 'event', event)
  end
end

-- Returns the reason why there is no head: the store was never initialised, or a copy into it was not
-- finished.
local function no_head()
  local unfinished = redis.call('EXISTS', '{idn}:copy') == 1
  return redis.error_reply(unfinished and 'IDN_UNFINISHED' or 'IDN_UNINITIALIZED')
end

-- Returns the reason why the store takes no write, whatever its epoch is, or nil.
local function unwritable(head)
  if not head then return no_head() end
  if head[9] then return redis.error_reply('IDN_FENCED ' .. head[9]) end
  return nil
end

-- Returns the reason why the store takes no write that expects this epoch, or nil.
local function refused(head, epoch)
  local no = unwritable(head)
  if no then return no end
  if head[1] ~= epoch then return redis.error_reply('IDN_REPLACED') end
  return nil
end

-- Returns the refusal of a write that needs no head, if the store was moved, or nil.
local function moved(key)
  local fence = redis.pcall('HGET', key, 'fence')
  if type(fence) == 'string' then return redis.error_reply('IDN_FENCED ' .. fence) end
  return nil
end

-- Appends a change to the log, updates `head`, and returns the position of the entry as text.
local function append(head_key, log_key, head, link, time, change)
  local position = string.format('%d', tonumber(head[2]) + 1)
  redis.call('XADD', log_key, position .. '-0',
    'link', link, 'prev', head[3], 'time', time, 'change', change)
  head[2], head[3], head[6] = position, link, string.format('%d', tonumber(head[6]) + 1)
  redis.call('HSET', head_key, 'position', position, 'link', link, 'kept', head[6])
  return position
end

-- Returns the position of a revision if this log has an entry with this link there, or nil. State that has
-- outlived the log which held its entry proves nothing, so its fact is appended again. The epoch is not
-- compared: links are random.
local function standing(log_key, revision, link)
  local position = string.match(revision, '%.(%d+)$')
  if not position then return nil end
  local entry = redis.call('XRANGE', log_key, position .. '-0', position .. '-0')[1]
  if not entry or entry[2][2] ~= link then return nil end -- 'link' is the first field, see `append`
  return position
end

-- Stores the generation of a principal; `text` is "<number>.<link>". A principal that was never raised is
-- counted, unless the mark is set: it is then not known whether the principal was counted before, and the
-- rebuild counts all. If a principal were counted twice, every start would fail: fewer generations would
-- exist than were raised. If one is not counted, the log only gets a new epoch.
local function hold(head_key, gen_key, head, principal, text, is_counted)
  if redis.call('HSET', gen_key, principal, text) == 1 and not head[8] and not is_counted then
    head[7] = string.format('%d', tonumber(head[7]) + 1)
    redis.call('HSET', head_key, 'raised', head[7])
  end
end

-- Raises a generation to max(its number, above) + 1, and returns number and position as text. `change` is the
-- JSON of the entry up to the number.
local function raise(head_key, log_key, gen_key, head, principal, above, change, link, time)
  local number = generation_at(gen_key, principal)
  number = string.format('%d', math.max(number, tonumber(above)) + 1)
  local position = append(head_key, log_key, head, link, time, change .. number .. '}')
  -- A caller that passes `above` > 0 knows that the generation was raised, and counted, before: the table has
  -- lost it.
  hold(head_key, gen_key, head, principal, number .. '.' .. link, tonumber(above) > 0)
  return number, position
end

-- Returns when a key expires, in Unix seconds: a day after its logical end. Decisions compare times and never
-- rely on the absence of a key, so a server whose clock was hours ahead has deleted nothing that still
-- counts.
local a_day = 86400
local function forget_at(time)
  return string.format('%d', math.ceil(tonumber(time)) + a_day)
end

-- Returns the list of names by which a record is found, from its JSON. Records of older stores have a
-- username instead.
local function names_of(names, username)
  if names then return cjson.decode(names) end
  return username and username ~= '' and {username} or {}
end

-- Denies a token id until a time. If there is a denial that lasts at least as long, nothing is appended.
-- `key` holds "<until> <revision> <link>", `change` is the JSON of the entry up to the time.
-- Returns position, link and time of the entry that holds the denial, and whether it was appended.
local function deny(head_key, log_key, head, key, until_, change, link, now)
  local held = text_at(key)
  if held then
    local held_until, revision, held_link = string.match(held, '^(%S+) (%S+) (%S+)$')
    number_in(key, 'end', held_until)
    if tonumber(held_until) >= tonumber(until_) then
      local position = standing(log_key, revision, held_link)
      if position then
        -- Written again, so that WAIT or WAITAOF covers this value.
        redis.call('SET', key, held, 'EXAT', forget_at(held_until))
        return position, held_link, held_until, false
      end
      until_ = held_until
    end
  end
  local position = append(head_key, log_key, head, link, now, change .. until_ .. '}')
  redis.call('SET', key, until_ .. ' ' .. head[1] .. '.' .. position .. ' ' .. link, 'EXAT', forget_at(until_))
  return position, link, until_, true
end

-- Ends a session. Each of its two times is extended independently, never shortened. `key` holds "<deny-until>
-- <end-until> <revision> <link>", `change` is the JSON of the entry up to the first time.
-- Returns position, link and both times of the entry that ends the session, and whether it was appended.
local function end_session(head_key, log_key, head, key, deny_until, end_until, change, link, now)
  local held = text_at(key)
  if held then
    local held_deny, held_end, revision, held_link = string.match(held, '^(%S+) (%S+) (%S+) (%S+)$')
    number_in(key, 'end of tokens', held_deny)
    number_in(key, 'end', held_end)
    if tonumber(held_deny) > tonumber(deny_until) then deny_until = held_deny end
    if tonumber(held_end) > tonumber(end_until) then end_until = held_end end
    if tonumber(deny_until) == tonumber(held_deny) and tonumber(end_until) == tonumber(held_end) then
      local position = standing(log_key, revision, held_link)
      if position then
        -- Written again, so that WAIT or WAITAOF covers this value.
        redis.call('SET', key, held, 'KEEPTTL')
        return position, held_link, held_deny, held_end, false
      end
    end
  end
  local position = append(head_key, log_key, head, link, now, change .. deny_until .. ',"end":' .. end_until .. '}')
  local last = tonumber(deny_until) > tonumber(end_until) and deny_until or end_until
  local state = deny_until .. ' ' .. end_until .. ' ' .. head[1] .. '.' .. position .. ' ' .. link
  redis.call('SET', key, state, 'EXAT', forget_at(last))
  return position, link, deny_until, end_until, true
end

-- Appends those of some facts that are absent (the state lacks them, or their entry is gone from the log),
-- and returns how many were appended. KEYS begins with head, log and generations; `denials` and `ends` are
-- prefixes of keys. The facts are in ARGV from index `i` on, each of them six or seven arguments:
--   'deny', id, until, '', change up to the time, link
--   'end', id, deny-until, end-until, change up to the first time, link
--   'gen', principal, number, its link, change up to the number, link, and the JSON of a raise without origin,
--   also up to the number
local function repair_facts(head, denials, ends, i, now)
  local appended = 0
  while ARGV[i] do
    local kind, id, link, new = ARGV[i], ARGV[i + 1], ARGV[i + 5], false
    if kind == 'deny' then
      if tonumber(ARGV[i + 2]) + a_day > tonumber(now) then -- else it is over by any clock
        new = select(4, deny(KEYS[1], KEYS[2], head, denials .. id, ARGV[i + 2], ARGV[i + 4], link, now))
      end
      i = i + 6
    elseif kind == 'end' then
      new = select(5, end_session(
        KEYS[1], KEYS[2], head, ends .. id, ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], link, now))
      i = i + 6
    else
      local number, known_link = generation_at(KEYS[3], id)
      local wanted = tonumber(ARGV[i + 2])
      if number == 0 then
        append(KEYS[1], KEYS[2], head, link, now, ARGV[i + 4] .. ARGV[i + 2] .. '}')
        hold(KEYS[1], KEYS[3], head, id, ARGV[i + 2] .. '.' .. ARGV[i + 3])
        new = true
      elseif wanted > number or (wanted == number and known_link ~= ARGV[i + 3]) then
        -- Two histories have raised it, and each may have revoked tokens issued in the other. A number above
        -- both makes tokens issued under either of them refused.
        raise(KEYS[1], KEYS[2], KEYS[3], head, id, ARGV[i + 2], ARGV[i + 6], link, now)
        new = true
      end
      i = i + 7
    end
    if new then appended = appended + 1 end
  end
  return appended
end

local function work()

-- Shared by all scripts: put in front of each before it is loaded. Owns the epoch check and the log.
--
-- Times are Unix seconds as decimal text: Lua would round them when it prints a number.
-- A refusal is an error reply whose first word the caller maps to an error of the domain. A script that
-- fails is not rolled back: every check comes first, then the log (the commit point), then the state.

local function now_or(given)
  if given ~= '' then return given end
  local time = redis.call('TIME')
  return time[1] .. '.' .. string.format('%06d', tonumber(time[2]))
end

-- The head as {epoch, position, link}, or nil where there is none.
local function head_at(key)
  local head = redis.call('HMGET', key, 'epoch', 'position', 'link')
  if not head[1] then return nil end
  return head
end

-- The reason why a write that expects this epoch may not go on, or nil.
local function refused(head, epoch)
  if not head then return redis.error_reply('IDN_UNINITIALIZED') end
  if head[1] ~= epoch then return redis.error_reply('IDN_REPLACED') end
  return nil
end

-- Puts one change at the end of the log; moves `head` and returns the position as text.
local function append(head_key, log_key, head, link, time, change)
  local position = string.format('%d', tonumber(head[2]) + 1)
  redis.call('XADD', log_key, position .. '-0',
    'link', link, 'prev', head[3], 'time', time, 'change', change)
  redis.call('HSET', head_key, 'position', position, 'link', link)
  head[2], head[3] = position, link
  return position
end

-- The position of a revision whose entry stands in this log under this link, or nil: state that outlived
-- the log which held it proves nothing, so its fact is appended again.
local function standing(log_key, head, revision, link)
  local epoch, position = string.match(revision, '^(%S+)%.(%d+)$')
  if epoch ~= head[1] then return nil end
  local entry = redis.call('XRANGE', log_key, position .. '-0', position .. '-0')[1]
  if not entry or entry[2][2] ~= link then return nil end -- 'link' is the first field, see append
  return position
end

-- Raises a generation to max(the number here, above) + 1; returns number and position as text.
-- `change` is the entry's JSON up to the number.
local function raise(head_key, log_key, gen_key, head, principal, above, change, link, time)
  local known = redis.call('HGET', gen_key, principal)
  local number = known and tonumber(string.match(known, '^(%d+)')) or 0
  number = string.format('%d', math.max(number, tonumber(above)) + 1)
  local position = append(head_key, log_key, head, link, time, change .. number .. '}')
  redis.call('HSET', gen_key, principal, number .. '.' .. link)
  return number, position
end

-- When a key may go: the first whole second that is not before `time`.
local function expire_at(time)
  return string.format('%d', math.ceil(tonumber(time)))
end

-- When the key of a session goes, in milliseconds: a minute after its end, so that the scripts decide by
-- comparing times, and the key's disappearance never does.
local function forget_session_at(expire)
  return string.format('%d', math.ceil((tonumber(expire) + 60) * 1000))
end

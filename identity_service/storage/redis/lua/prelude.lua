-- Shared by all scripts: put in front of each before it is loaded. Owns the epoch check and the log.
--
-- Times are Unix seconds as decimal text: Lua would round them when it prints a number.
-- A refusal is an error reply whose first word the caller maps to an error of the domain.

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

-- When a key may go: the first whole second that is not before `time`, at least now.
local function expire_at(time)
  return string.format('%d', math.ceil(tonumber(time)))
end

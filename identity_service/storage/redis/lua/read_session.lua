-- Returns a session and everything that may forbid to refresh it, read atomically, in one round trip. Reads
-- the records that the session names without declaring their keys, which is correct only on a single server.
-- With a rotation, it also rotates the session in this step, if that is plain: see `rotated`.
-- KEYS: session, end of the session, generations, and with a rotation the head
-- ARGV: now, prefix of users' keys, prefix of clients' keys, the principal of everyone, and with a rotation:
-- epoch, number of the token that was shown, client id, id of the next refresh key, grace in seconds
-- Returns {now, 1 if it was rotated or 0, version, value, expire, mark, end, user, client, generations of
-- everyone, subject, client}, all but the 1 as before the rotation; or {now} if there is no such session.
local now = now_or(ARGV[1])
local held = redis.call('HMGET', KEYS[1], 'v', 'd', 'expire', 'sub', 'client', 'ended')
if not held[1] then return {now} end
local generations = redis.call('HMGET', KEYS[3], ARGV[4], held[4], held[5])
local ended = redis.call('GET', KEYS[2])

-- Returns the value of the session after the rotation, or nil if the caller has to decide. `decide_refresh`
-- has the rules; this is only their most frequent case: the latest token, of a session without anything
-- that the caller would have to look at before.
local function rotated(epoch, shown, client, key_id, grace)
  local expire = tonumber(held[3])
  if held[5] ~= client or held[6] or ended or not expire or expire <= tonumber(now) then return nil end
  local is_json, session = pcall(cjson.decode, held[2])
  if not is_json or type(session) ~= 'table' or type(session.gen) ~= 'table' then return nil end
  if session.latest ~= tonumber(shown) or session.latest > 2 ^ 31 then return nil end
  local bound = (session.cert or cjson.null) ~= cjson.null or (session.jkt or cjson.null) ~= cjson.null
  if bound or (session.encryption or 'none') ~= 'none' then return nil end
  local current = {[ARGV[4]] = generations[1], [held[4]] = generations[2], [held[5]] = generations[3]}
  for principal, generation in pairs(current) do
    if (session.gen[principal] or false) ~= generation then return nil end
  end
  for principal in pairs(session.gen) do
    if current[principal] == nil then return nil end
  end
  -- The members that change are the last of the JSON, see `encode_session`. It is not encoded as a whole: Lua
  -- would round the numbers in the claims, and confuse empty lists with empty objects.
  local before, held_times = string.match(held[2], '^(.*,)"key":"[^"]*","latest":%d+,"parent":%-?%d+,'
    .. '"refresh":[^,]+,"times":{([^{}]*)}}$')
  if not before or refused(head_at(KEYS[4]), epoch) then return nil end
  local times = {}
  for number, time in string.gmatch(held_times, '"(%d+)":([%d.e+-]+)') do
    -- A second longer than needed: only the caller, whose times are not rounded, decides by the window.
    if tonumber(now) - tonumber(time) <= tonumber(grace) + 1 then
      times[#times + 1] = '"' .. number .. '":' .. time
    end
  end
  if #times > 100 then return nil end -- the caller knows the bound
  times[#times + 1] = '"' .. shown .. '":' .. now
  return before .. '"key":"' .. key_id .. '","latest":' .. string.format('%d', session.latest + 1)
    .. ',"parent":' .. shown .. ',"refresh":' .. now .. ',"times":{' .. table.concat(times, ',') .. '}}'
end

local value = ARGV[5] and rotated(unpack(ARGV, 5))
local answer = {now, value and 1 or 0, held[1], held[2], held[3], held[6], ended,
  redis.call('HGET', ARGV[2] .. held[4], 'value'), redis.call('HGET', ARGV[3] .. held[5], 'value'),
  generations[1], generations[2], generations[3]}
if value then redis.call('HSET', KEYS[1], 'v', string.format('%d', tonumber(held[1]) + 1), 'd', value) end
return answer

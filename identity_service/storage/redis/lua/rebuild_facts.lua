-- Appends the denials, or the ended sessions, that the state holds and the log lacks: those of one step of SCAN.
-- Reads and writes keys that it does not declare, all of them under the same hash tag.
-- KEYS: head, log
-- ARGV: epoch, now, 'deny' or 'end', what the keys begin with, cursor, how many keys to look at, what the links
--       of the entries are made of: 128 random bits, new for each step
-- answers {next cursor ('0' = that was all), how many were appended}.
local head = head_at(KEYS[1])
local no = refused(head, ARGV[1])
if no then return no end
local now, kind, prefix, appended = now_or(ARGV[2]), ARGV[3], ARGV[4], 0
-- What ended a day ago is over by any clock; its entry may have been trimmed.
local over = tonumber(now) - a_day
local scanned = redis.call('SCAN', ARGV[5], 'MATCH', prefix .. '*', 'COUNT', ARGV[6])
local texts = #scanned[2] > 0 and redis.call('MGET', unpack(scanned[2])) or {}
for i, key in ipairs(scanned[2]) do
  local held = texts[i] or text_at(key) -- MGET passes over a key of another type, which is damage
  local times, revision, link = string.match(held or '', '^(.+) (%S+) (%S+)$')
  local until_ = string.match(times or '', '^%S+')
  if held then number_in(key, 'end', until_) end
  if held and tonumber(until_) > over and not standing(KEYS[2], revision, link) then
    local id = cjson.encode(string.sub(key, #prefix + 1))
    local change = '{"k":"' .. kind .. '","id":' .. id .. ',"until":'
    local new = string.sub(redis.sha1hex(ARGV[7] .. i), 1, 16)
    if kind == 'deny' then
      deny(KEYS[1], KEYS[2], head, key, until_, change, new, now)
    else
      end_session(KEYS[1], KEYS[2], head, key, until_, string.match(times, '%S+$'), change, new, now)
    end
    appended = appended + 1
  end
end
return {scanned[1], appended}

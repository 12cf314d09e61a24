-- Appends the denials, or the ended sessions, that the state holds and the log lacks, for the keys of one
-- step of SCAN. Reads and writes keys that it does not declare, all with the same hash tag.
-- KEYS: head, log
-- ARGV: cursor, prefix of the keys, how many keys to look at, epoch, now, 'deny' or 'end', 128 random bits from
-- which, and from the position before it, the link of each entry is derived
-- Returns {next cursor ('0' = the end), how many were appended}.
local head = head_at(KEYS[1])
local no = refused(head, ARGV[4])
if no then return no end
local now, kind, prefix = now_or(ARGV[5]), ARGV[6], ARGV[2]
-- Facts that ended a day ago are over by any clock; their entries may have been trimmed.
local over = tonumber(now) - a_day
local scanned = redis.call('SCAN', ARGV[1], 'MATCH', prefix .. '*', 'COUNT', ARGV[3])
local texts = #scanned[2] > 0 and redis.call('MGET', unpack(scanned[2])) or {}
local absent = {}
for i, key in ipairs(scanned[2]) do
  local held = texts[i] or text_at(key) -- MGET returns nil for a key of another type, which is damage
  if held then
    local until_, end_until, revision, link = string.match(held, '^(%S+) ?(%S*) (%S+) (%S+)$')
    number_in(key, 'end', until_)
    if kind == 'end' then number_in(key, 'end', end_until) end
    if tonumber(until_) > over and not standing(KEYS[2], revision, link) then
      absent[#absent + 1] = {key, until_, end_until}
    end
  end
end
-- From here on only a failure of the server can end the script.
for _, fact in ipairs(absent) do
  local key, until_, end_until = fact[1], fact[2], fact[3]
  local link, times, last, rest = string.sub(redis.sha1hex(ARGV[7] .. head[2]), 1, 16), until_, until_, ''
  if kind == 'end' then
    times, rest = until_ .. ' ' .. end_until, ',"end":' .. end_until
    if tonumber(end_until) > tonumber(until_) then last = end_until end
  end
  local id = cjson.encode(string.sub(key, #prefix + 1))
  local change = '{"k":"' .. kind .. '","id":' .. id .. ',"until":' .. until_ .. rest .. '}'
  local position = append(KEYS[1], KEYS[2], head, link, now, change)
  local state = times .. ' ' .. head[1] .. '.' .. position .. ' ' .. link
  redis.call('SET', key, state, 'EXAT', forget_at(last))
end
return {scanned[1], #absent}

-- Text keys that begin with a prefix: those of one step of SCAN. Reads keys that it does not declare, all of them
-- under the same hash tag.
-- KEYS: head · ARGV: cursor, what the keys begin with, how many keys to look at
-- answers {next cursor ('0' = that was all), key, value, …}.
local scanned = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2] .. '*', 'COUNT', ARGV[3])
local texts = #scanned[2] > 0 and redis.call('MGET', unpack(scanned[2])) or {}
local found = {scanned[1]}
for i, key in ipairs(scanned[2]) do
  local held = texts[i] or text_at(key) -- MGET passes over a key of another type, which is damage
  if held then found[#found + 1], found[#found + 2] = key, held end
end
return found

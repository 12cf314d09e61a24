-- Returns the keys of type string with a prefix that one step of SCAN finds. Reads keys that it does not
-- declare, all with the same hash tag.
-- KEYS: head · ARGV: cursor, prefix, how many keys to look at
-- Returns {next cursor ('0' = the end), key, value, …}.
local scanned = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2] .. '*', 'COUNT', ARGV[3])
local texts = #scanned[2] > 0 and redis.call('MGET', unpack(scanned[2])) or {}
local found = {scanned[1]}
for i, key in ipairs(scanned[2]) do
  local held = texts[i] or text_at(key) -- MGET returns nil for a key of another type, which is damage
  if held then found[#found + 1], found[#found + 2] = key, held end
end
return found

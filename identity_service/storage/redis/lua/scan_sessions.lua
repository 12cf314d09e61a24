-- Returns the sessions that one step of SCAN finds on this server and that are live according to their
-- records. Reads keys that it does not declare, all of them on this server.
-- KEYS: none · ARGV: cursor, prefix, how many keys to look at, now
-- Returns {next cursor ('0' = the end), key, value, …}.
local scanned, now = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2] .. '*', 'COUNT', ARGV[3]), tonumber(now_or(ARGV[4]))
local found = {scanned[1]}
for _, key in ipairs(scanned[2]) do
  local held = redis.pcall('HMGET', key, 'd', 'expire', 'ended')
  if held.err then damaged(key, 'is not a hash') end
  if held[1] and not held[3] then
    number_in(key, 'end', held[2])
    if tonumber(held[2]) > now then found[#found + 1], found[#found + 2] = key, held[1] end
  end
end
return found

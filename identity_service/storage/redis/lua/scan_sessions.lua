-- Sessions that live, as far as their records say: those of one step of SCAN, of the server that is asked. Reads
-- keys that it does not declare, all of them on that server.
-- KEYS: none · ARGV: cursor, what the keys begin with, how many keys to look at, now
-- answers {next cursor ('0' = that was all), key, value, …}.
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

-- Heartbeats of version 0.1.0, which kept no list of them: those of one step of SCAN.
-- KEYS: head · ARGV: cursor, what the keys begin with, how many keys to look at
-- answers {next cursor ('0' = that was all), key, value, …}.
local scanned = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2] .. '*', 'COUNT', ARGV[3])
local found = {scanned[1]}
for _, key in ipairs(scanned[2]) do
  found[#found + 1], found[#found + 2] = key, redis.call('GET', key) or ''
end
return found

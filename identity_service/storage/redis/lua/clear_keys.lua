-- Deletes keys that begin with a prefix: those of one step of SCAN, of the server that is asked.
-- KEYS: mark of the copy, or none where any server may be asked
-- ARGV: cursor, what the keys begin with, how many keys to look at, keys that stay, …
-- answers {next cursor ('0' = that was all)}.
local scanned, stays = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2] .. '*', 'COUNT', ARGV[3]), {}
for i = 4, #ARGV do stays[ARGV[i]] = true end
for _, key in ipairs(scanned[2]) do
  if not stays[key] then redis.call('UNLINK', key) end
end
return {scanned[1]}

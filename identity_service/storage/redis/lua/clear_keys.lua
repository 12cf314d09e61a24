-- Deletes keys that begin with a prefix: those of one step of SCAN, of the server that is asked.
-- KEYS: mark of the copy and head, or none where any server may be asked
-- ARGV: cursor, what the keys begin with, how many keys to look at, name of the copy, keys that stay, …
-- answers {next cursor ('0' = that was all)} · refuses: IDN_COPY (another copy has begun, or finished: what is
--       here by now is its own)
if KEYS[1] and (redis.call('EXISTS', KEYS[2]) == 1 or redis.call('GET', KEYS[1]) ~= ARGV[4]) then
  return redis.error_reply('IDN_COPY')
end
local scanned, stays = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2] .. '*', 'COUNT', ARGV[3]), {}
for i = 5, #ARGV do stays[ARGV[i]] = true end
for _, key in ipairs(scanned[2]) do
  if not stays[key] then redis.call('UNLINK', key) end
end
return {scanned[1]}

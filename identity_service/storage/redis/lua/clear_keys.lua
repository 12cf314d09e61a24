-- Deletes the keys with a prefix that one step of SCAN finds on this server.
-- KEYS: mark of the copy and head, or none if the script may run on any server
-- ARGV: cursor, prefix, how many keys to look at, name of the copy, then keys to keep
-- Returns {next cursor ('0' = the end)} · Errors: IDN_COPY (another copy has begun or was finished, so that
-- the keys here are not those of this copy)
if KEYS[1] and (redis.call('EXISTS', KEYS[2]) == 1 or redis.call('GET', KEYS[1]) ~= ARGV[4]) then
  return redis.error_reply('IDN_COPY')
end
local scanned, stays = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2] .. '*', 'COUNT', ARGV[3]), {}
for i = 5, #ARGV do stays[ARGV[i]] = true end
for _, key in ipairs(scanned[2]) do
  if not stays[key] then redis.call('UNLINK', key) end
end
return {scanned[1]}

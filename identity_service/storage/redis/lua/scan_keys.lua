-- Returns the names of keys with a prefix that one step of SCAN finds on this server.
-- KEYS: head, or none if the script may run on any server · ARGV: cursor, prefix, how many keys to look at
-- Returns {next cursor ('0' = the end), key, …}.
local scanned = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2] .. '*', 'COUNT', ARGV[3])
return {scanned[1], unpack(scanned[2])}

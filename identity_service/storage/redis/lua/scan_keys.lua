-- The names of keys that begin with a prefix: those of one step of SCAN, of the server that is asked.
-- KEYS: head, or none where any server may be asked · ARGV: cursor, what the keys begin with, how many keys to
--       look at
-- answers {next cursor ('0' = that was all), key, …}.
local scanned = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2] .. '*', 'COUNT', ARGV[3])
return {scanned[1], unpack(scanned[2])}

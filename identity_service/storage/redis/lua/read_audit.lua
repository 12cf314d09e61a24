-- Audit events from one place to another: of each stream so many, all of one moment. Were they read one after the
-- other, a reader could see an event of the second and never an earlier one that came to the first meanwhile.
-- KEYS: streams · ARGV: XRANGE or XREVRANGE, its two places, how many events of each stream
-- answers the entries of each stream.
local found = {}
for i, key in ipairs(KEYS) do found[i] = redis.call(ARGV[1], key, ARGV[2], ARGV[3], 'COUNT', ARGV[4]) end
return found

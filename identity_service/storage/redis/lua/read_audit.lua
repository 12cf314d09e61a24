-- Returns audit events of one range of ids, up to a number from each stream, read atomically. If the
-- streams were read one after the other, a reader could see an event of the second one and miss for ever an
-- earlier event that was added to the first one meanwhile.
-- KEYS: streams · ARGV: XRANGE or XREVRANGE, begin and end of the range, how many events of each stream
-- Returns the entries of each stream.
local found = {}
for i, key in ipairs(KEYS) do found[i] = redis.call(ARGV[1], key, ARGV[2], ARGV[3], 'COUNT', ARGV[4]) end
return found

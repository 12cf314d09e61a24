-- Returns records of one kind, ordered by id. Reads keys that it does not declare, all with the same hash
-- tag.
-- KEYS: index of the kind · ARGV: prefix of the records' keys, begin of the range as ZRANGE BYLEX takes it,
-- limit
-- Returns {{value, revision}, …}.
local found = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], ARGV[2], '+', 'BYLEX', 'LIMIT', 0, ARGV[3])) do
  found[#found + 1] = redis.call('HMGET', ARGV[1] .. id, 'value', 'revision')
end
return found

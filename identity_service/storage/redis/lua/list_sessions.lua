-- A stretch of a list of sessions, the one that ends last first. Reads keys that it does not declare, all of
-- them under the same hash tag.
-- KEYS: list (sorted set: session id by end)
-- ARGV: now, prefix of the ends of sessions, the session before the stretch or '', how many
-- answers {session id, '1' where it was ended, …}.
local now, from, found = now_or(ARGV[1]), 0, {}
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if ARGV[3] ~= '' then
  local rank = redis.call('ZREVRANK', KEYS[1], ARGV[3])
  if not rank then return {} end
  from = rank + 1
end
for _, sid in ipairs(redis.call('ZREVRANGE', KEYS[1], from, from + ARGV[4] - 1)) do
  local ended = redis.call('GET', ARGV[2] .. sid)
  local is_over = ended and tonumber(string.match(ended, '^%S+ (%S+)')) > tonumber(now)
  found[#found + 1] = sid
  found[#found + 1] = is_over and '1' or ''
end
return found

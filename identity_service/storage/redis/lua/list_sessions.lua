-- Returns part of a list of sessions, the one that ends last first. Removes ended sessions from the list.
-- Reads keys that it does not declare, all with the same hash tag.
-- KEYS: list (sorted set: session id by end)
-- ARGV: now, prefix of the ends of sessions, the session after which to begin or '', its end ('' = unknown),
-- how many sessions to return, how many to look at
-- Returns {1 if the end of the list was reached, else 0, session id, its end, …}.
local list, sid, wanted, left = KEYS[1], ARGV[3], tonumber(ARGV[5]), tonumber(ARGV[6])
local now, from, found = tonumber(now_or(ARGV[1])), 0, {1}
redis.call('ZREMRANGEBYSCORE', list, '-inf', string.format('%.6f', now - a_day))
if sid ~= '' then
  local rank = redis.call('ZREVRANK', list, sid)
  if not rank then
    -- It was removed from the list meanwhile. It is added and removed again to find the rank after it.
    if ARGV[4] == '' then return found end
    redis.call('ZADD', list, ARGV[4], sid)
    rank = redis.call('ZREVRANK', list, sid) - 1
    redis.call('ZREM', list, sid)
  end
  from = rank + 1
end
while true do
  local some = math.min(left, wanted - (#found - 1) / 2)
  if some == 0 then
    found[1] = 0
    return found
  end
  local rows = redis.call('ZREVRANGE', list, from, from + some - 1, 'WITHSCORES')
  for i = 1, #rows, 2 do
    if tonumber(rows[i + 1]) <= now then return found end -- this session and all that follow have expired
    local ended = redis.call('GET', ARGV[2] .. rows[i])
    if ended and tonumber(string.match(ended, '^%S+ (%S+)')) > now then
      redis.call('ZREM', list, rows[i])
    else
      found[#found + 1], found[#found + 2], from = rows[i], rows[i + 1], from + 1
    end
  end
  if #rows < 2 * some then return found end
  left = left - some
end

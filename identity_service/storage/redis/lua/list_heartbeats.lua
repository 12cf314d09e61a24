-- Returns the last heartbeat of every process, the latest first. Reads keys that it does not declare, all
-- with the same hash tag.
-- KEYS: all heartbeats (sorted set: process by time) · ARGV: now, prefix of the heartbeats, seconds to look
-- back
-- Returns {process, "<time> <status>", …}.
local from, found = tonumber(now_or(ARGV[1])) - tonumber(ARGV[3]), {}
local rows = redis.call('ZREVRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #rows, 2 do
  local held = redis.call('GET', ARGV[2] .. rows[i])
  if held and tonumber(rows[i + 1]) > from then
    found[#found + 1], found[#found + 2] = rows[i], held
  end
end
return found

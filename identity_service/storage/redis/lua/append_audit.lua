-- Appends audit events that no change carries, each to the stream of its kind. Touches no log.
-- KEYS: stream of changes, stream of traffic, head
-- ARGV: now, how many to keep of either kind, then for each event '1' (a change) or '2' (traffic), and the event
-- answers how many.
local no = moved(KEYS[3])
if no then return no end
local now = now_or(ARGV[1])
for i = 4, #ARGV, 2 do
  local ring = tonumber(ARGV[i])
  add_event(KEYS[ring], next_event_id(), ARGV[1 + ring], now, ARGV[i + 1])
end
return (#ARGV - 3) / 2

-- Appends audit events that record no change of their own, each to the stream of its kind. Does not write to
-- the log.
-- KEYS: stream of changes, stream of traffic, head
-- ARGV: now, how many events of changes to keep, how many of traffic, then for each event '1' (a change) or
-- '2' (traffic), and the event as JSON
-- Returns the number of events.
local no = moved(KEYS[3])
if no then return no end
local now = now_or(ARGV[1])
for i = 4, #ARGV, 2 do
  local ring = tonumber(ARGV[i])
  add_event(KEYS[ring], next_event_id(), ARGV[1 + ring], now, ARGV[i + 1])
end
return (#ARGV - 3) / 2

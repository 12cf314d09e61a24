-- Appends audit events that no change carries. Touches no log.
-- KEYS: audit stream, head · ARGV: now, how many to keep, event, …
-- answers how many.
local no = moved(KEYS[2])
if no then return no end
local now = now_or(ARGV[1])
for i = 3, #ARGV do
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'time', now, 'event', ARGV[i])
end
return #ARGV - 2

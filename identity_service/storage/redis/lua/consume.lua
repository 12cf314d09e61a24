-- Marks a value that works only once as used until a time.
-- KEYS: key of the value ("<until>"), head · ARGV: now, until
-- Returns 1 for the first caller, 0 for all others until then.
local no = moved(KEYS[2])
if no then return no end
local held = redis.call('GET', KEYS[1])
if held and tonumber(held) > tonumber(now_or(ARGV[1])) then
  -- Written again, so that WAIT or WAITAOF covers this value.
  redis.call('SET', KEYS[1], held, 'KEEPTTL')
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'EXAT', forget_at(ARGV[2]))
return 1

-- Uses something up: who comes first gets it, until it may be forgotten.
-- KEYS: what is used up ("<until>"), head · ARGV: now, until
-- answers 1 for the first, 0 for all others until then.
local no = moved(KEYS[2])
if no then return no end
local held = redis.call('GET', KEYS[1])
if held and tonumber(held) > tonumber(now_or(ARGV[1])) then
  -- Written again, so that waiting for replicas or the disk confirms something.
  redis.call('SET', KEYS[1], held, 'KEEPTTL')
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'EXAT', forget_at(ARGV[2]))
return 1

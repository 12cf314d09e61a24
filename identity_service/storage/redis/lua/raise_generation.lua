-- Raises a principal's generation, once for a request id of the last 24 hours.
-- KEYS: head, log, generations, memory of the request
-- ARGV: epoch, now, principal, above, change (its JSON up to the number), link, seconds to remember
-- answers {position, link, number} of the entry that holds it.
local head = head_at(KEYS[1])
local no = refused(head, ARGV[1])
if no then return no end
local now = now_or(ARGV[2])
local held = redis.call('GET', KEYS[4])
if held then
  local number, position, link, expire = string.match(held, '^(%d+) (%d+) (%S+) (%S+)$')
  if tonumber(expire) > tonumber(now) then
    redis.call('SET', KEYS[4], held, 'KEEPTTL')
    return {position, link, number}
  end
end
local number, position = raise(KEYS[1], KEYS[2], KEYS[3], head, ARGV[3], ARGV[4], ARGV[5], ARGV[6], now)
local expire = string.format('%.6f', tonumber(now) + tonumber(ARGV[7]))
redis.call('SET', KEYS[4], number .. ' ' .. position .. ' ' .. ARGV[6] .. ' ' .. expire, 'EX', ARGV[7])
return {position, ARGV[6], number}

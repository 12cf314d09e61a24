-- Denies a token id until a time; a denial that lasts as long is found, not repeated.
-- KEYS: head, log, denial of the id · ARGV: epoch, now, until, change, link
-- answers {position, link, until} of the entry that holds it.
local head = head_at(KEYS[1])
local no = refused(head, ARGV[1])
if no then return no end
local held = redis.call('GET', KEYS[3])
if held then
  local until_, position, link = string.match(held, '^(%S+) (%d+) (%S+)$')
  if tonumber(until_) >= tonumber(ARGV[3]) then
    -- Written again, so that waiting for replicas or the disk confirms something.
    redis.call('SET', KEYS[3], held, 'EXAT', expire_at(until_))
    return {position, link, until_}
  end
end
local position = append(KEYS[1], KEYS[2], head, ARGV[5], now_or(ARGV[2]), ARGV[4])
redis.call('SET', KEYS[3], ARGV[3] .. ' ' .. position .. ' ' .. ARGV[5], 'EXAT', expire_at(ARGV[3]))
return {position, ARGV[5], ARGV[3]}

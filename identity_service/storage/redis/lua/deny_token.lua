-- Denies a token id until a time; a denial that lasts as long is found, not repeated.
-- KEYS: head, log, denial of the id ("<until> <revision> <link>")
-- ARGV: epoch, now, until, change (its JSON up to the time), link
-- answers {position, link, until} of the entry that holds it.
local head = head_at(KEYS[1])
local no = refused(head, ARGV[1])
if no then return no end
local deny = ARGV[3]
local held = redis.call('GET', KEYS[3])
if held then
  local until_, revision, link = string.match(held, '^(%S+) (%S+) (%S+)$')
  if tonumber(until_) >= tonumber(deny) then
    local position = standing(KEYS[2], head, revision, link)
    if position then
      -- Written again, so that waiting for replicas or the disk confirms something.
      redis.call('SET', KEYS[3], held, 'EXAT', expire_at(until_))
      return {position, link, until_}
    end
    deny = until_
  end
end
local position = append(KEYS[1], KEYS[2], head, ARGV[5], now_or(ARGV[2]), ARGV[4] .. deny .. '}')
redis.call('SET', KEYS[3], deny .. ' ' .. head[1] .. '.' .. position .. ' ' .. ARGV[5], 'EXAT', expire_at(deny))
return {position, ARGV[5], deny}

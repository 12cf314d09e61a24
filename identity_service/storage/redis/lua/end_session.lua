-- Ends a session; each of its two times grows by itself.
-- KEYS: head, log, end of the session ("<deny-until> <end-until> <revision> <link>")
-- ARGV: epoch, now, deny-until, end-until, change (its JSON up to the first time), link
-- answers {position, link, deny-until, end-until} of the entry that holds it.
local head = head_at(KEYS[1])
local no = refused(head, ARGV[1])
if no then return no end
local deny, end_ = ARGV[3], ARGV[4]
local held = redis.call('GET', KEYS[3])
if held then
  local held_deny, held_end, revision, link = string.match(held, '^(%S+) (%S+) (%S+) (%S+)$')
  if tonumber(held_deny) > tonumber(deny) then deny = held_deny end
  if tonumber(held_end) > tonumber(end_) then end_ = held_end end
  if tonumber(deny) == tonumber(held_deny) and tonumber(end_) == tonumber(held_end) then
    local position = standing(KEYS[2], head, revision, link)
    if position then
      -- Written again, so that waiting for replicas or the disk confirms something.
      redis.call('SET', KEYS[3], held, 'KEEPTTL')
      return {position, link, held_deny, held_end}
    end
  end
end
local change = ARGV[5] .. deny .. ',"end":' .. end_ .. '}'
local position = append(KEYS[1], KEYS[2], head, ARGV[6], now_or(ARGV[2]), change)
local last = tonumber(deny) > tonumber(end_) and deny or end_
local state = deny .. ' ' .. end_ .. ' ' .. head[1] .. '.' .. position .. ' ' .. ARGV[6]
redis.call('SET', KEYS[3], state, 'EXAT', expire_at(last))
return {position, ARGV[6], deny, end_}

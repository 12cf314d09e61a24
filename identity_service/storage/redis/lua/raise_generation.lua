-- Raises the generation of a principal, only once for a request id while that is remembered.
-- KEYS: head, log, generations, memory of the request (hash: principal → "<number> <revision> <link>
-- <until>")
-- ARGV: epoch, now, principal, above, change (its JSON up to the number), link, seconds to remember, seconds
-- until the memory is deleted
-- Returns {position, link, number} of the entry that holds the raise, and the link of the entry at that
-- position. A repeated request under another epoch gets the position of the end of the log, where there is
-- another entry.
local head = head_at(KEYS[1])
local no = refused(head, ARGV[1])
if no then return no end
local now = now_or(ARGV[2])
local held = redis.call('HGET', KEYS[4], ARGV[3])
if held then
  local number, epoch, position, link, until_ = string.match(held, '^(%d+) (%S+)%.(%d+) (%S+) (%S+)$')
  number_in(KEYS[4], 'end', until_)
  -- The table of generations holds the raise even after the log was trimmed. If it does not, the raise was
  -- lost with another log, and is repeated.
  if generation_at(KEYS[3], ARGV[3]) >= tonumber(number) and tonumber(until_) > tonumber(now) then
    local there = link
    if epoch ~= head[1] then position, there = head[2], head[3] end
    -- Written again, so that WAIT or WAITAOF covers this value.
    redis.call('HSET', KEYS[4], ARGV[3], held)
    return {position, link, number, there}
  end
end
local number, position = raise(KEYS[1], KEYS[2], KEYS[3], head, ARGV[3], ARGV[4], ARGV[5], ARGV[6], now)
local until_ = string.format('%.6f', tonumber(now) + tonumber(ARGV[7]))
redis.call('HSET', KEYS[4], ARGV[3], number .. ' ' .. head[1] .. '.' .. position .. ' ' .. ARGV[6] .. ' ' .. until_)
redis.call('EXPIRE', KEYS[4], ARGV[8])
return {position, ARGV[6], number, ARGV[6]}

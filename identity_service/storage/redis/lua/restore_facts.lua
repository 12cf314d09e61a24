-- Appends those of some facts that are absent: state missing, or its entry gone from the log.
-- KEYS: head, log, generations
-- ARGV: epoch, now, prefix of denials, prefix of ends of sessions, then for each fact six:
--       'deny', id, until, '', change up to the time, link
--       'end', id, deny-until, end-until, change up to the first time, link
--       'gen', principal, number, its link, change up to the number, link; the JSON of a plain raise
--       up to the number follows as a seventh
-- answers {position of the end of the log, how many were appended}.
local head = head_at(KEYS[1])
local no = refused(head, ARGV[1])
if no then return no end
local now, appended, i = now_or(ARGV[2]), 0, 5
while ARGV[i] do
  local kind, id, link, new = ARGV[i], ARGV[i + 1], ARGV[i + 5], false
  if kind == 'deny' then
    if tonumber(ARGV[i + 2]) + a_day > tonumber(now) then -- what ended a day ago is over by any clock
      new = select(4, deny(KEYS[1], KEYS[2], head, ARGV[3] .. id, ARGV[i + 2], ARGV[i + 4], link, now))
    end
    i = i + 6
  elseif kind == 'end' then
    new = select(5, end_session(
      KEYS[1], KEYS[2], head, ARGV[4] .. id, ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], link, now))
    i = i + 6
  else
    local number, known_link = generation_at(KEYS[3], id)
    local wanted = tonumber(ARGV[i + 2])
    if wanted > number then
      append(KEYS[1], KEYS[2], head, link, now, ARGV[i + 4] .. ARGV[i + 2] .. '}')
      hold(KEYS[1], KEYS[3], head, id, ARGV[i + 2] .. '.' .. ARGV[i + 3])
      new = true
    elseif wanted == number and known_link ~= ARGV[i + 3] then
      -- Two logs raised to one number: neither may win, so that what was issued under either is refused.
      raise(KEYS[1], KEYS[2], KEYS[3], head, id, '0', ARGV[i + 6], link, now)
      new = true
    end
    i = i + 7
  end
  if new then appended = appended + 1 end
end
-- Something is written in any case, so that waiting for replicas or the disk confirms something.
redis.call('HSET', KEYS[1], 'link', head[3])
return {head[2], appended}

-- Does one step of an attempt at a credential for all of its limits: claims it, or settles the claim. Does
-- not write to the log. `domain/attempts.py` has the contract.
-- KEYS: index of the counters with failures by the end of their window, then one counter for each limit
-- ARGV: now, step ('claim', 'right', 'wrong' or 'none'), name of the claim, its lifetime, how many counters
-- are kept, then for each limit: free failures, longest pause, window, 1 if a success forgives (else 0), and
-- the total number of failures that the counter had at the claim (0 for a claim). Times are in seconds.
-- Returns {'claimed', total failures for each limit}, {'paused', seconds left}, {'occupied'}, or {'settled'}.
--
-- A counter is a hash: failed (total failures), forgiven (how many of them no longer count), window and pause
-- (the times when they end), and for each claim in progress `claim:<name>` = the time when it ends.
--
-- If the server's clock was set back, an end that is too far ahead is set to the latest that it could be from
-- now.
local step, claim, lifetime, kept = ARGV[2], 'claim:' .. ARGV[3], tonumber(ARGV[4]), ARGV[5]
local now = tonumber(now_or(ARGV[1]))

local function pause_after(counter)
  local exponent = math.min(counter.failures - counter.free, 20)
  return exponent < 0 and 0 or math.min(2 ^ exponent, counter.lockout)
end

local function whole(number) return string.format('%d', number) end
local function seconds(number) return string.format('%.6f', number) end

-- The ends that are too far ahead, as arguments of HSET.
local set_anew = {}
local function bounded(key, name, ends, furthest)
  if ends <= furthest then return ends end
  table.insert(set_anew, {key, name, seconds(furthest)})
  return furthest
end

local function counter_at(i)
  local key, a = KEYS[i], 6 + (i - 2) * 5
  local counter = {key = key, free = tonumber(ARGV[a]), lockout = tonumber(ARGV[a + 1]), length = tonumber(ARGV[a + 2]),
    forgives = ARGV[a + 3] == '1', before = tonumber(ARGV[a + 4]), claims = 0, last = 0, over = {}}
  local held = redis.pcall('HGETALL', key)
  if held.err then damaged(key, 'is not a hash') end
  local numbers = {failed = 0, forgiven = 0, window = 0, pause = 0}
  for j = 1, #held, 2 do
    local name, text = held[j], held[j + 1]
    if numbers[name] then
      number_in(key, name, text)
      numbers[name] = tonumber(text)
    elseif name == claim then
      counter.own = true
    else
      number_in(key, name, text)
      local ends = bounded(key, name, tonumber(text), now + lifetime)
      if ends > now then
        counter.claims = counter.claims + 1
        counter.last = math.max(counter.last, ends)
      else
        table.insert(counter.over, name)
      end
    end
  end
  counter.failed, counter.forgiven = numbers.failed, numbers.forgiven
  counter.window = bounded(key, 'window', numbers.window, now + counter.length)
  if counter.window <= now then counter.forgiven, numbers.pause = counter.failed, 0 end
  counter.failures = counter.failed - counter.forgiven
  counter.pause = bounded(key, 'pause', numbers.pause, now + pause_after(counter))
  return counter
end

local function write(counter, claimed)
  local key = counter.key
  counter.failures = counter.failed - counter.forgiven
  if counter.failures == 0 and counter.claims == 0 and not claimed then
    redis.call('DEL', key)
    redis.call('ZREM', KEYS[1], key)
    return
  end
  for _, name in ipairs(counter.over) do redis.call('HDEL', key, name) end
  redis.call('HSET', key, 'failed', whole(counter.failed), 'forgiven', whole(counter.forgiven),
    'window', seconds(counter.window), 'pause', seconds(counter.pause))
  if claimed then
    counter.last = now + lifetime
    redis.call('HSET', key, claim, seconds(counter.last))
  else
    redis.call('HDEL', key, claim)
  end
  local ends = counter.failures > 0 and math.max(counter.window, counter.last) or counter.last
  redis.call('EXPIRE', key, whole(math.ceil(ends - now) + 1))
  if counter.failures > 0 then
    redis.call('ZADD', KEYS[1], seconds(counter.window), key)
    redis.call('EXPIRE', KEYS[1], whole(math.ceil(counter.length) + 1))
  else
    redis.call('ZREM', KEYS[1], key)
  end
end

local counters = {}
for i = 2, #KEYS do table.insert(counters, counter_at(i)) end
for _, words in ipairs(set_anew) do redis.call('HSET', unpack(words)) end

if step == 'claim' then
  local left, occupied, answer = 0, false, {'claimed'}
  for _, counter in ipairs(counters) do
    table.insert(answer, counter.failed)
    if counter.own then -- the first answer was lost, and this is the retry
    elseif counter.failures < counter.free then
      occupied = occupied or counter.failures + counter.claims >= counter.free
    elseif counter.pause > now then
      left = math.max(left, counter.pause - now)
    else
      occupied = occupied or counter.claims > 0
    end
  end
  if left > 0 then return {'paused', seconds(left)} end
  if occupied then return {'occupied'} end
  for _, counter in ipairs(counters) do write(counter, true) end
  return answer
end

for _, counter in ipairs(counters) do
  if step == 'wrong' then
    -- A failure counts even if the claim has ended meanwhile. A retry after a lost answer may count it twice.
    if counter.failures == 0 then counter.window = now + counter.length end
    counter.failed = counter.failed + 1
    counter.failures = counter.failures + 1
    counter.pause = now + pause_after(counter)
  elseif step == 'right' and counter.forgives then
    counter.forgiven = math.max(counter.forgiven, math.min(counter.failed, counter.before))
    counter.pause = 0
  end
  write(counter, false)
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', seconds(now))
while redis.call('ZRANGE', KEYS[1], kept, kept)[1] do
  local oldest = redis.call('ZRANGE', KEYS[1], 0, 0)[1]
  redis.call('DEL', oldest)
  redis.call('ZREM', KEYS[1], oldest)
end
return {'settled'}

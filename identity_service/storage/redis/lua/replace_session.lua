-- Replaces a session if it has the expected version and has neither expired nor ended. Without the head as a
-- key, the session is on another server, and the caller has checked the epoch and read the time.
-- KEYS: session, head · ARGV: epoch, now, expected version, value, expire-time
-- Returns 1, or 0 if the version is another one, or the session is gone.
local no = KEYS[2] and refused(head_at(KEYS[2]), ARGV[1])
if no then return no end
local held = redis.call('HMGET', KEYS[1], 'v', 'expire', 'ended')
if held[1] ~= ARGV[3] or held[3] or tonumber(held[2]) <= tonumber(now_or(ARGV[2])) then return 0 end
redis.call('HSET', KEYS[1], 'v', string.format('%d', tonumber(held[1]) + 1), 'd', ARGV[4], 'expire', ARGV[5])
redis.call('EXPIREAT', KEYS[1], forget_at(ARGV[5]))
return 1

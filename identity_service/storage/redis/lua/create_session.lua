-- Stores a new session. Without the head as a key, the session is on another server, and the caller has
-- checked the epoch.
-- KEYS: session (hash: v = version, d = JSON, expire = expire-time, sub = subject, client = client id, ended
-- = '1' if it was ended), head
-- ARGV: epoch, value, expire-time, subject, client
-- Returns 1 · Errors: IDN_EXISTS
local no = KEYS[2] and refused(head_at(KEYS[2]), ARGV[1])
if no then return no end
if redis.call('EXISTS', KEYS[1]) == 1 then return redis.error_reply('IDN_EXISTS') end
redis.call('HSET', KEYS[1], 'v', '1', 'd', ARGV[2], 'expire', ARGV[3], 'sub', ARGV[4], 'client', ARGV[5])
redis.call('EXPIREAT', KEYS[1], forget_at(ARGV[3]))
return 1

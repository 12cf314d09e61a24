-- Stores a new session. Without the head it lies on another server, and the caller has read the epoch.
-- KEYS: session (hash: v = version, d = JSON, expire = expire-time, sub and client = whose it is, ended = it was), head
-- ARGV: epoch, value, expire-time, subject, client
-- answers 1 · refuses: IDN_EXISTS
local no = KEYS[2] and refused(head_at(KEYS[2]), ARGV[1])
if no then return no end
if redis.call('EXISTS', KEYS[1]) == 1 then return redis.error_reply('IDN_EXISTS') end
redis.call('HSET', KEYS[1], 'v', '1', 'd', ARGV[2], 'expire', ARGV[3], 'sub', ARGV[4], 'client', ARGV[5])
redis.call('EXPIREAT', KEYS[1], forget_at(ARGV[3]))
return 1

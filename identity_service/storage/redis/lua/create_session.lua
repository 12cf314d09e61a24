-- Stores a new session. It lies outside of the hash tag of the head: right on one node.
-- KEYS: head, session (hash: v = version, d = JSON, expire = expire-time, sub and client = whose it is)
-- ARGV: epoch, value, expire-time, subject, client
-- answers 1 · refuses: IDN_EXISTS
local no = refused(head_at(KEYS[1]), ARGV[1])
if no then return no end
if redis.call('EXISTS', KEYS[2]) == 1 then return redis.error_reply('IDN_EXISTS') end
redis.call('HSET', KEYS[2], 'v', '1', 'd', ARGV[2], 'expire', ARGV[3], 'sub', ARGV[4], 'client', ARGV[5])
redis.call('PEXPIREAT', KEYS[2], forget_session_at(ARGV[3]))
return 1

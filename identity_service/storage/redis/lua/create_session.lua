-- Stores a new session. It lies outside of the hash tag of the head: right on one node.
-- KEYS: head, session · ARGV: epoch, value, expire-time, subject, client
-- answers 1 · refuses: IDN_EXISTS
local no = refused(head_at(KEYS[1]), ARGV[1])
if no then return no end
if redis.call('EXISTS', KEYS[2]) == 1 then return redis.error_reply('IDN_EXISTS') end
redis.call('HSET', KEYS[2], 'version', '1', 'value', ARGV[2], 'expire', ARGV[3], 'sub', ARGV[4], 'client', ARGV[5])
redis.call('EXPIREAT', KEYS[2], expire_at(ARGV[3]))
return 1

-- Marks the record of a session as ended in a cluster, where it may be on another server than `{idn}`.
-- KEYS: session
-- Returns the session's own end, or '' if there is no such session.
local own = redis.call('HGET', KEYS[1], 'expire')
if not own then return '' end
redis.call('HSET', KEYS[1], 'ended', '1')
return own

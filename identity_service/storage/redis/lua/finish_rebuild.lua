-- Clears the mark after the log was completed from the state. Counts entries and generations again in the
-- same step.
-- KEYS: head, log, generations · ARGV: epoch, now
-- Returns how many generations are lost for good; if there are any, the mark stays · Errors: IDN_VANISHED
-- (entries were removed since the mark was set)
local head = head_at(KEYS[1])
local no = refused(head, ARGV[1])
if no then return no end
local raised = redis.call('HLEN', KEYS[3])
if redis.call('XLEN', KEYS[2]) ~= tonumber(head[6]) then return redis.error_reply('IDN_VANISHED') end
if head[8] then
  if raised < tonumber(head[7]) then return tonumber(head[7]) - raised end
  redis.call('HDEL', KEYS[1], 'incomplete')
end
redis.call('HSET', KEYS[1], 'raised', string.format('%d', head[8] and raised or tonumber(head[7])))
return 0

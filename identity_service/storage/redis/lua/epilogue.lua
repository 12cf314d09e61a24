
end

-- Behind every script: a mutation that was not refused leaves its audit event in the same step. Its key is
-- the last of all keys; now, how many to keep and the event are the last of all arguments.
local answer = work()
if audit and not (type(answer) == 'table' and answer.err) then
  redis.call('XADD', audit.key, 'MAXLEN', '~', audit.keep, '*', 'time', now_or(audit.now), 'event', audit.event)
end
return answer

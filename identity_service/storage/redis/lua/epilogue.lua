
end

-- Appended to every script: a mutation that was not refused stores its audit event in the same step. The key
-- of the stream is the last of all keys; now, how many events to keep, and the event are the last of all
-- arguments.
if audit then audit.id = next_event_id() end -- before the first write: a damaged stream ends the script
local answer = work()
if audit and not (type(answer) == 'table' and answer.err) then
  add_event(audit.key, audit.id, audit.keep, now_or(audit.now), audit.event)
end
return answer

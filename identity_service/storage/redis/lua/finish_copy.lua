-- Finishes a copy: writes the head, with the mark that the log must be completed from the state. Idempotent.
-- KEYS: head, mark of the copy, generations, head of version 0.1.0
-- ARGV: name of the copy, which becomes the epoch, text for the head of version 0.1.0, then the high-water
-- marks: retention, longest lifetime, session and leeway in seconds, latest steady time and latest time ('' =
-- none)
-- Returns 1 · Errors: IDN_COPY (another copy has begun or was finished)
local held = redis.call('HGET', KEYS[1], 'epoch')
if held ~= ARGV[1] and (held or redis.call('GET', KEYS[2]) ~= ARGV[1]) then return redis.error_reply('IDN_COPY') end
if not held then
  redis.call('HSET', KEYS[1], 'format', '2', 'epoch', ARGV[1], 'position', '0', 'link', '', 'kept', '0',
    'raised', redis.call('HLEN', KEYS[3]), 'incomplete', '1', 'retention', ARGV[3], 'lifetime', ARGV[4],
    'session', ARGV[5], 'leeway', ARGV[6])
  for i, name in ipairs({'time', 'latest'}) do
    if ARGV[6 + i] ~= '' then redis.call('HSET', KEYS[1], name, ARGV[6 + i]) end
  end
  redis.call('DEL', KEYS[2])
end
-- Always written, so that WAIT or WAITAOF covers a write of this call.
redis.call('SET', KEYS[4], ARGV[2])
return 1

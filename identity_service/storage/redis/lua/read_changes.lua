-- Returns the entries after a position, the records that they changed, and the head, read atomically. Reads
-- keys that it does not declare, all with the same hash tag.
-- KEYS: head, log · ARGV: now, after, limit, prefix of the keys of records
-- Returns {head, see `head_reply`, {entry, …}, {record, …}}: each entry as XRANGE returns it, and for each
-- entry its record, or '' if the record was deleted or the entry is of another kind.
local head = head_at(KEYS[1])
if not head then return no_head() end
local entries = redis.call('XRANGE', KEYS[2], '(' .. ARGV[2] .. '-0', '+', 'COUNT', ARGV[3])
local records = {}
for i, entry in ipairs(entries) do
  local change, value = entry[2][8], false -- 'change' is the last field, see `append`
  if change and string.sub(change, 1, 13) == '{"k":"record"' then
    local record = cjson.decode(change)
    value = redis.call('HGET', ARGV[4] .. record.kind .. ':' .. record.id, 'value')
  end
  records[i] = value or ''
end
return {head_reply(KEYS[1], now_or(ARGV[1]), 1), entries, records}

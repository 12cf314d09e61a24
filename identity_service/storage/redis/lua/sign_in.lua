-- Returns what a sign-in with a username needs, read atomically. Reads the key of the user without declaring
-- it; it has the same hash tag.
-- KEYS: usernames, generations, client
-- ARGV: now, username, prefix of users' keys, the principal of everyone, client id
-- Returns {now, user, client, generation of everyone, of the client, of the user, the user's id}.
local id = redis.call('HGET', KEYS[1], ARGV[2])
local user = id and redis.call('HGET', ARGV[3] .. id, 'value')
local generations = redis.call('HMGET', KEYS[2], ARGV[4], ARGV[5], id or ARGV[4])
return {now_or(ARGV[1]), user, redis.call('HGET', KEYS[3], 'value'),
  generations[1], generations[2], id and generations[3], id}

-- Puts back a login that Redis forgot, unless a newer one of its session was started meanwhile.
-- KEYS: the ticket, the session's active pointer, the ticket's owner, the running logins
-- ARGV: ticket, ticket hash, version, state, contents, checkpoint (may be empty), ttl in ms, channel,
--       what stands before a ticket in its key, replica, its tenure in ms
-- Answers 'there', 'superseded' or 'restored'.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 'there'
end
local active = redis.call('GET', KEYS[2])
if active and active ~= ARGV[1] and redis.call('EXISTS', ARGV[9] .. active) == 1 then
  return 'superseded'
end
redis.call('HSET', KEYS[1], 'h', ARGV[2], 'v', ARGV[3], 's', ARGV[4], 'f', 0, 'd', ARGV[5], 'o', ARGV[10])
if ARGV[6] ~= '' then
  redis.call('HSET', KEYS[1], 'c', ARGV[6])
end
redis.call('PEXPIRE', KEYS[1], ARGV[7])
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[7])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[3], ARGV[10], 'PX', ARGV[11])
redis.call('ZADD', KEYS[4], now + ARGV[11], ARGV[1])
if redis.call('PTTL', KEYS[4]) < tonumber(ARGV[7]) then
  redis.call('PEXPIRE', KEYS[4], ARGV[7])
end
redis.call('PUBLISH', ARGV[8], ARGV[2])
return 'restored'

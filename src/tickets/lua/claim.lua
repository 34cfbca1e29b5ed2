-- Makes a replica the owner of a login that nobody runs.
-- KEYS: the ticket, its owner, the running logins
-- ARGV: ticket, replica, its tenure in ms
-- Answers 'gone', 'held', 'let go' (the former owner said that it stopped) or 'silent'.
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('ZREM', KEYS[3], ARGV[1])
  return 'gone'
end
if redis.call('EXISTS', KEYS[2]) == 1 then
  return 'held'
end
local free = redis.call('HGET', KEYS[1], 'l')
redis.call('HSET', KEYS[1], 'o', ARGV[2])
redis.call('HDEL', KEYS[1], 'l')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
redis.call('ZADD', KEYS[3], now + ARGV[3], ARGV[1])
if redis.call('PTTL', KEYS[3]) == -1 then
  redis.call('PEXPIRE', KEYS[3], 86400000)
end
if free then
  return 'let go'
end
return 'silent'

-- Leaves a login to whoever claims it first; its owner has stopped.
-- KEYS: the ticket, its owner, the running logins
-- ARGV: ticket, replica, channel, what is published
-- Answers 1, or 0 if another replica owns it.
if redis.call('HGET', KEYS[1], 'o') ~= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], 'l', 1)
redis.call('DEL', KEYS[2])
redis.call('ZADD', KEYS[3], 0, ARGV[1])
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 1

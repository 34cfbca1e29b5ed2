-- Forgets who ran a login and what another replica would have needed: nothing is left to be done for it.
-- KEYS: the ticket, its owner, the running logins
-- ARGV: ticket, replica
-- Answers 1, or 0 if another replica owns it.
local owner = redis.call('HGET', KEYS[1], 'o')
if owner and owner ~= ARGV[2] then
  return 0
end
redis.call('HDEL', KEYS[1], 'c')
redis.call('DEL', KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[1])
return 1

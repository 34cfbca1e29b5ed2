-- Writes a login that has neither changed nor ended since it was read, by the replica that runs it. Its time to live
-- stays.
-- KEYS: the ticket
-- ARGV: version read, state, 1 if ended, contents, keep | set | clear, checkpoint, channel, ticket hash, replica
-- Answers -1 if there is none, -2 if another replica runs it, 0 if it changed or ended, else 1.
local row = redis.call('HMGET', KEYS[1], 'v', 'f', 'o')
if not row[1] then
  return -1
end
if row[3] ~= ARGV[9] then
  return -2
end
if row[1] ~= ARGV[1] or row[2] ~= '0' then
  return 0
end
redis.call('HSET', KEYS[1], 's', ARGV[2], 'f', ARGV[3], 'd', ARGV[4])
redis.call('HINCRBY', KEYS[1], 'v', 1)
if ARGV[5] == 'set' then
  redis.call('HSET', KEYS[1], 'c', ARGV[6])
elseif ARGV[5] == 'clear' then
  redis.call('HDEL', KEYS[1], 'c')
end
redis.call('PUBLISH', ARGV[7], ARGV[8])
return 1

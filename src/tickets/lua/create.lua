-- Stores a new login, makes it the active one of its session and supersedes the former active one.
-- KEYS: the ticket, the session's active pointer, the request (may be left out)
-- ARGV: ticket, ticket hash, state, 1 if ended, contents, checkpoint (may be empty), ttl in ms, channel,
--       what stands before a ticket in its key
-- Answers {'existing', ticket}, {'taken'} or {'new', superseded ticket or ''}.
if KEYS[3] then
  local known = redis.call('GET', KEYS[3])
  if known and redis.call('EXISTS', ARGV[9] .. known) == 1 then
    return { 'existing', known }
  end
end
if redis.call('EXISTS', KEYS[1]) == 1 then
  return { 'taken' }
end

redis.call('HSET', KEYS[1], 'h', ARGV[2], 'v', 1, 's', ARGV[3], 'f', ARGV[4], 'd', ARGV[5])
if ARGV[6] ~= '' then
  redis.call('HSET', KEYS[1], 'c', ARGV[6])
end
redis.call('PEXPIRE', KEYS[1], ARGV[7])

local superseded = ''
local former = redis.call('GET', KEYS[2])
if former then
  local key = ARGV[9] .. former
  if redis.call('HGET', key, 'f') == '0' then
    redis.call('HSET', key, 's', 'superseded', 'f', 1)
    redis.call('HINCRBY', key, 'v', 1)
    redis.call('PUBLISH', ARGV[8], redis.call('HGET', key, 'h'))
    superseded = former
  end
end

redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[7])
if KEYS[3] then
  redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[7])
end
redis.call('PUBLISH', ARGV[8], ARGV[2])
return { 'new', superseded }

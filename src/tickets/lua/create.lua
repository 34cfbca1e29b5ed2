-- Stores a new login, makes it the active one of its session and supersedes the former active one.
-- KEYS: the ticket, the session's active pointer, the ticket's owner, the running logins, the request (may be left out)
-- ARGV: ticket, ticket hash, state, 1 if ended, contents, checkpoint (may be empty), ttl in ms, channel,
--       what stands before a ticket in its key, replica, its tenure in ms, revision of the row that names the login
-- Answers {'existing', ticket}, {'taken'}, {'late'} if a login runs that wrote the row later, or {'new', superseded ticket or ''}.
if KEYS[5] then
  local known = redis.call('GET', KEYS[5])
  if known and redis.call('EXISTS', ARGV[9] .. known) == 1 then
    return { 'existing', known }
  end
end
if redis.call('EXISTS', KEYS[1]) == 1 then
  return { 'taken' }
end

local former = redis.call('GET', KEYS[2])
if former then
  local row = redis.call('HMGET', ARGV[9] .. former, 'f', 'r')
  if row[1] == '0' and tonumber(row[2] or '0') > tonumber(ARGV[12]) then
    return { 'late' }
  end
end

redis.call('HSET', KEYS[1], 'h', ARGV[2], 'v', 1, 's', ARGV[3], 'f', ARGV[4], 'd', ARGV[5], 'o', ARGV[10], 'r', ARGV[12])
if ARGV[6] ~= '' then
  redis.call('HSET', KEYS[1], 'c', ARGV[6])
end
redis.call('PEXPIRE', KEYS[1], ARGV[7])

local superseded = ''
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
if KEYS[5] then
  redis.call('SET', KEYS[5], ARGV[1], 'PX', ARGV[7])
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[3], ARGV[10], 'PX', ARGV[11])
redis.call('ZADD', KEYS[4], now + ARGV[11], ARGV[1])
if redis.call('PTTL', KEYS[4]) < tonumber(ARGV[7]) then
  redis.call('PEXPIRE', KEYS[4], ARGV[7])
end
redis.call('PUBLISH', ARGV[8], ARGV[2])
return { 'new', superseded }

-- Finds logins that nobody runs any more, and forgets those whose time is over.
-- KEYS: the running logins
-- ARGV: how many at most, what stands before a ticket in its key
-- Answers tickets.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local orphans = {}
for _, ticket in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])) do
  if redis.call('EXISTS', ARGV[2] .. ticket) == 1 then
    orphans[#orphans + 1] = ticket
  else
    redis.call('ZREM', KEYS[1], ticket)
  end
end
return orphans

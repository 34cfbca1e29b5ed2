-- Confirms that a replica still runs its logins. A tenure that ran out is taken up again unless somebody else did.
-- KEYS: the running logins
-- ARGV: replica, tenure in ms, what stands before a ticket in its key, the same for its owner, tickets…
-- Answers for each ticket: 1 its own, 2 its own but ended by somebody, 0 another replica's, -1 there is none.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local standings = {}
for at = 5, #ARGV do
  local row = redis.call('HMGET', ARGV[3] .. ARGV[at], 'o', 'f')
  if not row[1] then
    standings[#standings + 1] = -1
  elseif row[1] ~= ARGV[1] then
    standings[#standings + 1] = 0
  else
    redis.call('SET', ARGV[4] .. ARGV[at], ARGV[1], 'PX', ARGV[2])
    redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[at])
    if row[2] == '0' then
      standings[#standings + 1] = 1
    else
      standings[#standings + 1] = 2
    end
  end
end
if redis.call('PTTL', KEYS[1]) == -1 then
  redis.call('PEXPIRE', KEYS[1], 86400000)
end
return standings

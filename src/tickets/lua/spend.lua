-- Spends one login from every budget, or from none. Telegram's own pauses come first.
-- KEYS: pauses…, budgets…
-- ARGV: how many of the keys are pauses, then for each budget its limit and its span in ms
-- Answers {'spent'}, {'paused', ms} or {'exhausted', which budget from 1, ms}.
local pauses = tonumber(ARGV[1])
for at = 1, pauses do
  local left = redis.call('PTTL', KEYS[at])
  if left > 0 then
    return { 'paused', left }
  end
end
for at = pauses + 1, #KEYS do
  local budget = at - pauses
  local spent = tonumber(redis.call('GET', KEYS[at]) or '0')
  if spent >= tonumber(ARGV[2 * budget]) then
    return { 'exhausted', budget, math.max(redis.call('PTTL', KEYS[at]), 1) }
  end
end
for at = pauses + 1, #KEYS do
  local budget = at - pauses
  if redis.call('INCR', KEYS[at]) == 1 then
    redis.call('PEXPIRE', KEYS[at], ARGV[2 * budget + 1])
  end
end
return { 'spent' }

-- Claim an idempotency key for a call, or say what became of the call that has it.
-- KEYS: 1 the key's entry, 2 record of the call
-- ARGV: 1 fingerprint of the request, 2 lifetime (ms), 3 how long a call may take from its claim to its hold (ms)
-- Returns: {0} claimed | {1, answer} kept of the call that had it | {2} that call is under way | {3} it was
--          another request | {4} it has ended, and its answer was not kept
local e = redis_call('HMGET', KEYS[1], 'fp', 'record', 'answer', 'at')
local now = now_ms()
if not e[1] then
  redis_call('HSET', KEYS[1], 'fp', ARGV[1], 'record', KEYS[2], 'at', s(now))
  redis_call('PEXPIRE', KEYS[1], ARGV[2])
  return {0}
end
if e[1] ~= ARGV[1] then return {3} end
if e[3] then return {1, e[3]} end
local status = redis_call('HGET', e[2], 'st')
if status == 'held' or (not status and now - e[4] < tonumber(ARGV[3])) then return {2} end
return {4}

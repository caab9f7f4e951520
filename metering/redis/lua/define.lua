-- Create a limit's live counters, or bring their definition up to date; a later epoch starts anew.
-- KEYS: 1 limit hash
-- ARGV: 1 mode, 2 unit, 3-4 max, 5-6 threshold, 7 epoch, then, for counters that are not there:
--       8-9 settled, 10-11 input, 12-13 output, 14.. ok, exceeded, overrun, blocked, blocked_external, failed
-- Returns: 1 created, 2 updated
local key, n = KEYS[1], {}
for i = 1, #ARGV do n[i] = tonumber(ARGV[i]) or 0 end
local ep = redis.call('HGET', key, 'ep')
local created = not ep or (n[7] > tonumber(ep) and ARGV[2] ~= 'concurrent')
redis.call('HSET', key, 'mode', ARGV[1], 'unit', ARGV[2], 'def', struct.pack(DEF, n[3], n[4], n[5], n[6]))
if not created then return 2 end
redis.call('HSET', key, 'ep', ARGV[7])
write(key, {n[8], n[9], n[10], n[11], n[12], n[13], 0, 0, 0, 0, 0, n[14], n[15], n[16], n[17], n[18], n[19]})
redis.call('DEL', key .. ':h')
return 1

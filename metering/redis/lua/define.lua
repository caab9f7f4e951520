-- Create a limit's live counters, or bring their definition up to date; a later epoch starts anew.
-- KEYS: 1 limit hash
-- ARGV: 1 mode, 2 unit, 3-4 max, 5-6 threshold, 7 epoch, then, for counters that are not there:
--       8-9 settled, 10-11 input, 12-13 output, 14.. ok, exceeded, overrun, blocked, blocked_external, failed
-- Returns: 1 created, 2 updated
local key = KEYS[1]
local ep = redis.call('HGET', key, 'ep')
local created = not ep or (tonumber(ARGV[7]) > tonumber(ep) and ARGV[2] ~= 'concurrent')
redis.call('HSET', key, 'mode', ARGV[1], 'unit', ARGV[2], 'mw', ARGV[3], 'mp', ARGV[4], 'tw', ARGV[5], 'tp', ARGV[6])
if not created then return 2 end
redis.call('HSET', key, 'ep', ARGV[7], 'sw', ARGV[8], 'sp', ARGV[9], 'iw', ARGV[10], 'ip', ARGV[11], 'ow', ARGV[12], 'op', ARGV[13],
  'lw', 0, 'lp', 0, 'cw', 0, 'cp', 0, 'n', 0, 'ok', ARGV[14], 'exceeded', ARGV[15], 'overrun', ARGV[16],
  'blocked', ARGV[17], 'blocked_external', ARGV[18], 'failed', ARGV[19])
redis.call('DEL', key .. ':h')
return 1

-- Put back a call that Redis has forgotten, as its rows tell: for a correction to find.
-- KEYS: 1 record
-- ARGV: 1 status, 2 row, 3 charges, 4 lifetime (ms)
-- Returns: 1 done | 0 it is there: somebody put it back before, and may have corrected it
if redis_call('EXISTS', KEYS[1]) == 1 then return 0 end
redis_call('HSET', KEYS[1], 'st', ARGV[1], 'row', ARGV[2], 'lim', ARGV[3])
redis_call('PEXPIRE', KEYS[1], ARGV[4])
return 1

-- Take or keep a duty for a while: one worker has it.
-- KEYS: 1 lease
-- ARGV: 1 who asks, 2 ttl ms
-- Returns: 1 it is mine, 0 another has it
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1

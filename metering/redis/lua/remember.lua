-- Share a definition that was read, unless what is there is at least as new: a change, above all.
-- KEYS: 1 entry
-- ARGV: 1 the server's time in microseconds, before the truth was read, 2 what to keep behind it, 3 ttl ms
-- Returns: 1 it is kept, 0 what is there is newer
local there = redis.call('GET', KEYS[1])
if there and tonumber(string.match(there, '^%d+')) >= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2], 'PX', ARGV[3])
return 1

-- Forget a definition that was changed, for good: who read it before the change keeps it no more.
-- KEYS: 1 entry
-- ARGV: 1 channel, 2 what has changed, 3 ttl ms
-- Returns: how many were told
local now = redis.call('TIME')
local stamp = string.format('%s%06d', now[1], now[2])
redis.call('SET', KEYS[1], stamp, 'PX', ARGV[3])
return redis.call('PUBLISH', ARGV[1], ARGV[2])

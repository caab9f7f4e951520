-- Count something in a span of time that begins with the first.
-- KEYS: 1 counter
-- ARGV: 1 span ms
-- Returns: {how often by now, ms until the span ends}
local count = redis.call('INCR', KEYS[1])
if count == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return {count, redis.call('PTTL', KEYS[1])}

-- Begin a new epoch of a limit with empty counters; calls in flight settle into the old one.
-- KEYS: 1 limit hash
-- ARGV: 1 the new epoch
-- Returns: {1, counters as field, value, ...} as they were | {2} begun before | {-1} not loaded
local key = KEYS[1]
local v = redis.call('HMGET', key, 'ep', 'unit', 'lw', 'lp', 'cw', 'cp', 'n')
if not v[1] then return {-1} end
if tonumber(v[1]) >= tonumber(ARGV[1]) then return {2} end
local before = redis.call('HGETALL', key)
redis.call('HSET', key, 'sw', 0, 'sp', 0, 'iw', 0, 'ip', 0, 'ow', 0, 'op', 0,
  'ok', 0, 'exceeded', 0, 'overrun', 0, 'blocked', 0, 'blocked_external', 0, 'failed', 0)
if v[2] ~= 'concurrent' then  -- who is running now still runs: a concurrency limit keeps its holds
  redis.call('HSET', key, 'ep', ARGV[1], 'lw', 0, 'lp', 0, 'cw', 0, 'cp', 0, 'n', 0)
  redis.call('DEL', key .. ':h')
end
return {1, before}

-- Begin a generation of a shard: what Redis knows of it is whole.
-- KEYS: 1 outbox, 2 generation
-- ARGV: 1 the generation
-- Returns: OK
if redis_call('EXISTS', KEYS[1]) == 0 then redis_call('XDEL', KEYS[1], redis_call('XADD', KEYS[1], '*', 'kind', 'none')) end
return redis_call('SET', KEYS[2], ARGV[1])

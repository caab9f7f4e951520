-- Begin a generation of a shard: what Redis knows of it is whole. Or make ready for one: what is handed in from now
-- on must be there when it begins.
-- KEYS: 1 outbox, 2 generation
-- ARGV: 1 the generation, or '' to make ready
-- Returns: 1 done | 0 something was lost again since it was made ready
local is_there = redis_call('EXISTS', KEYS[1]) == 1
if ARGV[1] ~= '' then
  if not is_there or redis_call('GET', KEYS[2]) == 'lost' then return 0 end
  redis_call('SET', KEYS[2], ARGV[1])
  return 1
end
redis_call('DEL', KEYS[2])
if not is_there then redis_call('XDEL', KEYS[1], redis_call('XADD', KEYS[1], '*', 'kind', 'none')) end
return 1

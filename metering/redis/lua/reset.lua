-- Begin a new epoch of a limit with empty counters; calls in flight settle into the old one.
-- KEYS: 1 limit hash
-- ARGV: 1 the new epoch
-- Returns: {1, the hash as field, value, ... as it was} | {2} begun before | {-1} not loaded
local key = KEYS[1]
local _, unit, ep, _, _, _, _, c = read(key)
if not ep then return {-1} end
if tonumber(ep) >= tonumber(ARGV[1]) then return {2} end
local before = redis.call('HGETALL', key)
for i = 1, 17 do
  -- who is running now still runs: a concurrency limit keeps its holds, and so its epoch
  if unit ~= 'concurrent' or i < 7 or i > 11 then c[i] = 0 end
end
write(key, c)
if unit ~= 'concurrent' then
  redis.call('HSET', key, 'ep', ARGV[1])
  redis.call('DEL', key .. ':h', key .. ':w')
end
return {1, before}

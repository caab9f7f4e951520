-- Begin a new epoch of a limit with empty counters; calls in flight settle into the old one.
-- KEYS: 1 limit hash
-- ARGV: 1 the new epoch
-- Returns: {1, the hash as field, value, ... as it was} | {2} begun before | {-1} not loaded
local l = limit_of(KEYS[1])
if not l then return {-1} end
if tonumber(l.ep) >= tonumber(ARGV[1]) then return {2} end
local before = redis_call('HGETALL', l.key)
for i = 1, 17 do
  -- who is running now still runs: a concurrency limit keeps its holds, and so its epoch
  if l.unit ~= 'concurrent' or i < 7 or i > 11 then l.c[i] = 0 end
end
write(l.key, l.c)
if l.unit ~= 'concurrent' then
  l.ep = ARGV[1]
  say(l)
  redis_call('DEL', l.key .. ';h', l.key .. ';w')
end
return {1, before}

-- Bring a limit's definition up to date, or create its live counters; a later epoch starts anew.
-- KEYS: 1 limit hash
-- ARGV: 1 mode, 2 unit, 3-4 max, 5-6 threshold, 7 epoch, 8 how long a part of a rolling window is (ms; 0: it has
--       none)
-- Returns: 1 done | 0 created, or found, closed: its counters have to be rebuilt
local key, n = KEYS[1], {}
for i = 3, 8 do n[i] = tonumber(ARGV[i]) end
local was = redis_call('HMGET', key, 'ep', 'mode')
local ep = was[1]
local closed = not ep or was[2] == 'closed'
redis_call('HSET', key, 'mode', closed and 'closed' or ARGV[1], 'open', ARGV[1], 'unit', ARGV[2],
  'def', struct.pack(DEF, n[3], n[4], n[5], n[6]))
if not ep or (n[7] > tonumber(ep) and ARGV[2] ~= 'concurrent') then
  redis_call('DEL', key .. ':h', key .. ':w')
  redis_call('HDEL', key, 'width')
  redis_call('HSET', key, 'ep', ARGV[7])
  if n[8] > 0 then redis_call('HSET', key, 'width', ARGV[8]) end
  local c = {}
  for i = 1, 17 do c[i] = 0 end
  write(key, c)
end
return closed and 0 or 1

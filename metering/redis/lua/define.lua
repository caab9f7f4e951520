-- Bring a limit's definition up to date, or create its live counters; a later epoch starts anew.
-- KEYS: 1 limit hash
-- ARGV: 1 mode, 2 unit, 3-4 max, 5-6 threshold, 7 epoch, 8 how long a part of a rolling window is (ms; 0: it has
--       none)
-- Returns: 1 done | 0 created, or found, closed: its counters have to be rebuilt
local key, n = KEYS[1], {}
for i = 3, 8 do n[i] = tonumber(ARGV[i]) end
local mode, _, ep, _, _, _, _, _, width = read(key)
local closed = not ep or mode == 'closed'
local anew = not ep or (n[7] > tonumber(ep) and ARGV[2] ~= 'concurrent')
redis_call('HSET', key, 'open', ARGV[1])
say({key = key, mw = n[3], mp = n[4], tw = n[5], tp = n[6], width = anew and n[8] or width,
  mode = closed and 'closed' or ARGV[1], unit = ARGV[2], ep = anew and ARGV[7] or ep})
if anew then
  redis_call('DEL', key .. ';h', key .. ';w')
  local c = {}
  for i = 1, 17 do c[i] = 0 end
  write(key, c)
end
return closed and 0 or 1

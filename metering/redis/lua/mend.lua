-- Add to a limit's counters what they lack, in the life they were found in: what calls do meanwhile stays.
-- KEYS: 1 limit hash, 2 generation
-- ARGV: 1 epoch, 2 the generation they were found in ('': any), 3 1: they are whole then, the limit opens,
--       4-5 what likely amounts lack, 6-7 what ceilings lack, 8 holds, then of each epoch that counts (0: what
--       comes in now): epoch, what settled, input, output lack (two integers each, signed), and the states
-- Returns: 1 done | 0 it is not loaded, or another life has begun | -4 another generation has
if ARGV[2] ~= '' and redis_call('GET', KEYS[2]) ~= ARGV[2] then return -4 end
local l = limit_of(KEYS[1])
if not l or l.ep ~= ARGV[1] then return 0 end
local c = l.c
c[7], c[8] = add(c[7], c[8], ARGV[4], ARGV[5])
c[9], c[10] = add(c[9], c[10], ARGV[6], ARGV[7])
c[11] = c[11] + ARGV[8]
for i = 9, #ARGV, 13 do
  local was = snapshot(l)
  for j = 1, 5, 2 do c[j], c[j + 1] = add(c[j], c[j + 1], ARGV[i + j], ARGV[i + j + 1]) end
  for j = 7, 12 do c[j + 5] = c[j + 5] + ARGV[i + j] end
  book(l, ARGV[i] == '0' and l.into or ARGV[i], was)  -- in a rolling window it leaves with its part
end
l.changed = true
save_all()
if ARGV[3] == '1' then
  l.mode = redis_call('HGET', KEYS[1], 'open')
  say(l)
end
return 1

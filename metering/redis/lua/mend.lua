-- Add to a limit's counters what they lack, in the life it was found in: what calls do meanwhile stays.
-- KEYS: 1 limit hash
-- ARGV: 1 epoch, 2-11 what settled, input, output, likely and ceilings lack (signed), 12 holds, 13.. the states
-- Returns: 1 done | 0 it is not loaded, or another life has begun
local l = limit_of(KEYS[1], now_ms())
if not l or l.ep ~= ARGV[1] then return 0 end
local c, was = l.c, snapshot(l)
for i = 1, 9, 2 do c[i], c[i + 1] = add(c[i], c[i + 1], ARGV[i + 1], ARGV[i + 2]) end
for i = 11, 17 do c[i] = c[i] + ARGV[i + 1] end
book(l, l.into, was)  -- in a rolling window it counts from now
l.changed = true
save_all()
return 1

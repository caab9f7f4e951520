-- Add to a limit's counters what they lack, in the life it was found in: what calls do meanwhile stays.
-- KEYS: 1 limit hash
-- ARGV: 1 epoch, 2-11 what settled, input, output, likely and ceilings lack (signed), 12 holds, 13.. the states
-- Returns: 1 done | 0 it is not loaded, or another life has begun
local _, _, ep, _, _, _, _, c = read(KEYS[1])
if ep ~= ARGV[1] then return 0 end
for i = 1, 9, 2 do c[i], c[i + 1] = add(c[i], c[i + 1], ARGV[i + 1], ARGV[i + 2]) end
for i = 11, 17 do c[i] = c[i] + ARGV[i + 1] end
write(KEYS[1], c)
return 1

-- Bring a limit's counters to the window that is now: what has ended, or left a rolling one, counts no more.
-- KEYS: 1 limit hash
-- ARGV: 1 its window, if it is one on the calendar (id|before|present|next;)
-- Returns: 1 done | 0 not loaded
local l = limit_of(KEYS[1])
if not l then return 0 end
for _, first, second, third in string.gmatch(ARGV[1], STARTS) do roll(l, first, second, third) end
save_all()
return 1

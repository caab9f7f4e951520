-- Put back a hold that Redis has forgotten, as the worker that keeps it alive remembers it.
-- KEYS: 1 holds, 2 record, 3.. limit hashes
-- ARGV: 1 ttl ms, 2 row, 3 what it holds of each limit in the order of the keys, as `reserve` writes it
-- Returns: 1 done | 0 it is there: nothing was lost of it, or somebody put it back before
local holds, record = KEYS[1], KEYS[2]
local k = 2
local deadline, status = s(now_ms() + ARGV[1]), redis_call('HGET', record, 'st')
if status == 'held' then redis_call('ZADD', holds, 'NX', deadline, record) end
if status then return 0 end
for _, ep, _, _, lw, lp, cw, cp in string.gmatch(ARGV[3], SHARE) do
  k = k + 1
  local l = limit_of(KEYS[k])
  if l and counts(l.ep, l.width, ep) then
    local c = l.c
    c[7], c[8] = add(c[7], c[8], lw, lp)
    c[9], c[10] = add(c[9], c[10], cw, cp)
    c[11] = c[11] + 1
    l.changed = true
    l.held = note(l.held, deadline, record)
  end
end
save_all()
redis_call('HSET', record, 'st', 'held', 'row', ARGV[2], 'lim', ARGV[3])
redis_call('ZADD', holds, deadline, record)
return 1

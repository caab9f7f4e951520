-- Put the row of a call that has ended into the outbox again: its entry is gone, and the row has not landed.
-- KEYS: 1 record, 2 outbox, 3 generation
-- ARGV: 1 id of the entry
-- Returns: the id of the entry, the same if it is there | false: Redis does not know the call
if #redis_call('XRANGE', KEYS[2], ARGV[1], ARGV[1]) > 0 then return ARGV[1] end
local r = redis_call('HMGET', KEYS[1], 'row', 'lim')
if not r[1] then return false end
return append(KEYS[2], KEYS[3], 'kind', 'replayed', 'row', r[1], 'lim', r[2])

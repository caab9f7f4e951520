-- Forget what has landed in Postgres: its outbox entries, and most records and indexes.
-- KEYS: 1 outbox, 2.. what lives on for a while, then what is forgotten at once
-- ARGV: 1 how many outbox entries, 2.. their ids, then a lifetime (ms) for each key that lives on
-- Returns: how many entries were deleted
local n = tonumber(ARGV[1])
local kept = #ARGV - 1 - n
for i = 1, kept do redis_call('PEXPIRE', KEYS[1 + i], ARGV[1 + n + i]) end
if #KEYS > kept + 1 then redis_call('UNLINK', unpack(KEYS, kept + 2)) end
return redis_call('XDEL', KEYS[1], unpack(ARGV, 2, n + 1))

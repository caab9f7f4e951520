-- Forget what has landed in Postgres: its outbox entries at once, its records after a while.
-- KEYS: 1 outbox, 2.. records and indexes
-- ARGV: 1 how many outbox entries, 2.. their ids, then a lifetime (ms) for each of the keys
-- Returns: how many entries were deleted
local n = tonumber(ARGV[1])
for i = 2, #KEYS do redis.call('PEXPIRE', KEYS[i], ARGV[n + i]) end
return redis.call('XDEL', KEYS[1], unpack(ARGV, 2, n + 1))

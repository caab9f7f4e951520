-- Forget what has landed in Postgres: its outbox entries, and most records and indexes.
-- KEYS: 1 outbox, 2.. what lives on for a while, then records, then other keys to forget at once
-- ARGV: 1 how many outbox entries, 2 how many records, 3 the lifetime (ms) of a record that was corrected
--       after what has landed was written: its mark alone stops a second correction, 4.. ids of entries,
--       then a lifetime (ms) for each key that lives on
-- Returns: how many entries were deleted
local n, records = tonumber(ARGV[1]), tonumber(ARGV[2])
local kept = #ARGV - 3 - n
for i = 1, kept do redis_call('PEXPIRE', KEYS[1 + i], ARGV[3 + n + i]) end
local forgotten = {}
for i = kept + 2, #KEYS do
  if i <= kept + 1 + records and redis_call('HEXISTS', KEYS[i], 'corrected') == 1 then
    redis_call('PEXPIRE', KEYS[i], ARGV[3])
  else
    forgotten[#forgotten + 1] = KEYS[i]
  end
end
if #forgotten > 0 then redis_call('UNLINK', unpack(forgotten)) end
return redis_call('XDEL', KEYS[1], unpack(ARGV, 4, n + 3))

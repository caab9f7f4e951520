-- Create a limit's live counters, or bring their definition up to date; a later epoch starts anew.
-- KEYS: 1 limit hash
-- ARGV: 1 mode, 2 unit, 3-4 max, 5-6 threshold, 7 epoch, 8 how long a part of a rolling window is (ms; 0: it has
--       none), then, for counters that are not there, what they begin with, of each epoch that counts: epoch,
--       settled, input, output (two integers each), ok, exceeded, overrun, blocked, blocked_external, failed
-- Returns: 1 created, 2 updated
local key, n, c = KEYS[1], {}, {}
for i = 1, #ARGV do n[i] = tonumber(ARGV[i]) or 0 end
local ep = redis.call('HGET', key, 'ep')
local created = not ep or (n[7] > tonumber(ep) and ARGV[2] ~= 'concurrent')
redis.call('HSET', key, 'mode', ARGV[1], 'unit', ARGV[2], 'def', struct.pack(DEF, n[3], n[4], n[5], n[6]))
if not created then return 2 end
redis.call('DEL', key .. ':h', key .. ':w')
redis.call('HDEL', key, 'width')
redis.call('HSET', key, 'ep', ARGV[7])
if n[8] > 0 then redis.call('HSET', key, 'width', ARGV[8]) end
for i = 1, 17 do c[i] = 0 end
for i = 9, #ARGV, 13 do
  for j = 1, 5, 2 do c[j], c[j + 1] = add(c[j], c[j + 1], n[i + j], n[i + j + 1]) end
  for j = 7, 12 do c[j + 5] = c[j + 5] + n[i + j] end
  if n[8] > 0 then redis.call('HSET', key .. ':w', ARGV[i], struct.pack(PART, unpack(n, i + 1, i + 12))) end
end
write(key, c)
return 1

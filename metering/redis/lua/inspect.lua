-- One moment of an application's live books: no call comes between.
-- KEYS: 1 holds, 2 outbox, 3.. limit hashes, then records that may be in no set
-- ARGV: 1 how many limits, 2 what the application's records begin with, 3 the id after which entries of the outbox
--       are told (-: all)
-- Returns: {ms, entries of the outbox, {what it is, counters, members of its holds, first and last epoch that counts,
--          parts of a rolling window (epoch, packed, ...)} of each limit (false: not loaded), the application's holds, {record, status, shares} of all records that are named}
local now = now_ms()
local n, prefix, after = tonumber(ARGV[1]), ARGV[2], ARGV[3] == '-' and '-' or '(' .. ARGV[3]
local limits, alive, records, named = {}, {}, {}, {}
local function look(record)
  if named[record] then return end
  named[record] = true
  local r = redis_call('HMGET', record, 'st', 'lim')
  records[#records + 1] = {record, r[1], r[2]}
end
for i = 3, n + 2 do
  local l = limit_of(KEYS[i])  -- what has left a rolling window is not in the counters any more
  local v, members = redis_call('HMGET', KEYS[i], 'is', 'cnt'), redis_call('ZRANGE', KEYS[i] .. ';h', 0, -1)
  local first, last = l and l.ep, l and l.ep
  if l and l.width then first, last = s(math.max(tonumber(l.ep), l.oldest * l.width)), s(2 ^ 53) end
  local parts = l and l.width and redis_call('HGETALL', KEYS[i] .. ';w')
  limits[#limits + 1] = {v[1], v[2], members, first, last, parts or {}}
  for _, record in ipairs(members) do look(record) end
end
for _, record in ipairs(redis_call('ZRANGE', KEYS[1], 0, -1)) do
  if string.sub(record, 1, #prefix) == prefix then
    alive[#alive + 1] = record
    look(record)
  end
end
for i = n + 3, #KEYS do look(KEYS[i]) end
return {s(now), redis_call('XRANGE', KEYS[2], after, '+'), limits, alive, records}

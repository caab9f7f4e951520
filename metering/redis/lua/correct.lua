-- Replace what a finished call was charged: the delta of a correction entry, once by its name.
-- KEYS: 1 record, 2 outbox, 3 generation, 4.. limit hashes
-- ARGV: 1 entry name, 2 row of the correction, 3 row of the call as it is now, 4-5 total, 6-7 by how much
--       its output differs (usd, signed), 8 tokens, 9 how often it had been corrected when the difference
--       was made, 10 total and difference of output of limits with own rates, or that had them, 11 row that
--       takes the call back as it was, for 2 to put it down as it is ('': 2 has the difference), 12.. limit
--       ids in the order of the keys. Total and tokens are the call's true ones; the
--       script takes what was charged before from the record: what is not output, is input.
-- Returns: {1, charges, underflows, id of the outbox entry} (signed charges) | {2} corrected before | {3} another correction came
--          between: make the difference anew | {-1} no such call
local record, outbox = KEYS[1], KEYS[2]
local r = redis.call('HMGET', record, 'lim', 'entry:' .. ARGV[1], 'corrected')
if not r[1] then return {-1} end
if r[2] then return {2} end
if (r[3] or '0') ~= ARGV[9] then return {3} end
local charged = {}
for id, ep, unit, w, p in string.gmatch(r[1], '([^|;]+)|(%d+)|(%a+)|(%d+)|(%d+)|') do
  charged[id] = {ep = ep, unit = unit, w = tonumber(w), p = tonumber(p)}
end
local charges, truth, back, underflows, rated = {}, {}, {}, 0, own_amounts(ARGV[10]) or {}
for i = 4, #KEYS do
  local id, key = ARGV[i + 8], KEYS[i]
  local before = charged[id]
  if before then
    local aw, ap, ow, op = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
    if rated[id] then aw, ap, ow, op = unpack(rated[id]) end
    aw, ap, ow, op = tonumber(aw), tonumber(ap), tonumber(ow), tonumber(op)
    if before.unit == 'tokens' then aw, ap = tonumber(ARGV[8]), 0
    elseif before.unit ~= 'usd' then aw, ap = before.w, before.p end
    local dw, dp = sub(aw, ap, before.w, before.p)
    local l, what = limit_of(key), 'ok'
    if l and counts(l.ep, l.width, before.ep) then
      local c, was = l.c, snapshot(l)
      c[1], c[2] = add(c[1], c[2], dw, dp)
      if before.unit == 'usd' then
        c[3], c[4] = add(c[3], c[4], dw, dp)
        c[3], c[4] = sub(c[3], c[4], ow, op)
        c[5], c[6] = add(c[5], c[6], ow, op)
      end
      if l.mode ~= 'closed' and (c[1] < 0 or c[3] < 0) then underflows = underflows + 1 end
      what = state(c[1], c[2], l.mw, l.mp, l.tw, l.tp)
      book(l, before.ep, was)
      l.changed = true
    end
    charges[#charges + 1] = table.concat({id, before.ep, before.unit, s(dw), s(dp), what}, '|') .. ';'
    local nw, np = sub(0, 0, before.w, before.p)
    back[#back + 1] = table.concat({id, before.ep, before.unit, s(nw), s(np), what}, '|') .. ';'
    truth[#truth + 1] = table.concat({id, before.ep, before.unit, s(aw), s(ap), what}, '|') .. ';'
  end
end
save_all()
local text = table.concat(charges)
redis.call('HSET', record, 'entry:' .. ARGV[1], 1, 'row', ARGV[3], 'lim', table.concat(truth))
redis.call('HINCRBY', record, 'corrected', 1)
redis.call('PERSIST', record)
local said = text
if ARGV[11] ~= '' then
  append(outbox, KEYS[3], 'kind', 'correction', 'row', ARGV[11], 'lim', table.concat(back))
  said = table.concat(truth)
end
local entry = append(outbox, KEYS[3], 'kind', 'correction', 'row', ARGV[2], 'lim', said)
return {1, text, underflows, entry}

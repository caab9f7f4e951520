-- End a hold once: settle (the truth), release (nothing was used) or expire (nobody knows).
-- KEYS: 1 record, 2 holds, 3 outbox, 4 index by provider id (or the record again), 5.. limit hashes
-- ARGV: 1 verb, 2 row, 3-4 total, 5-6 input, 7-8 output (usd), 9 tokens,
--       10 `due` (to expire, if it is time), `held` (there is a hold) or `any` (there may be none),
--       11 what the index says, 12.. `id|epoch` of the limits in the order of the keys (epoch `0`: the present)
-- Returns: {1, charges, underflows} done | {2, charges} done before | {3, charges} was expired:
--          correct it | {4} not due yet | {5} the hold is gone: ask the rows whether it had ended
local record, holds, outbox, index = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local verb = ARGV[1]
local r = redis.call('HMGET', record, 'st', 'lim', 'fw', 'fp', 'ft')
local status = r[1]
if status == 'expired' and verb ~= 'expire' then return {3, r[2]} end
if status and status ~= 'held' then return {2, r[2]} end
if not status and ARGV[10] == 'held' then return {5} end
if ARGV[10] == 'due' then
  local deadline = redis.call('ZSCORE', holds, record)
  if not status or (deadline and tonumber(deadline) > now_ms()) then return {4} end
end
numbers(r, 3)

local shares = {}  -- what this call holds, by limit id
for id, ep, unit, mode, lw, lp, cw, cp in string.gmatch(r[2] or '', SHARE) do
  shares[id] = {ep = ep, unit = unit, mode = mode, lw = tonumber(lw), lp = tonumber(lp), cw = tonumber(cw), cp = tonumber(cp)}
end

local function amount(unit, share)
  if verb == 'release' or unit == 'concurrent' then return 0, 0 end
  if unit == 'requests' then return 1, 0 end
  if verb == 'expire' then
    if share and share.mode == 'hard' then return share.cw, share.cp end
    if unit == 'tokens' then return r[5], 0 end
    return r[3], r[4]
  end
  if unit == 'tokens' then return tonumber(ARGV[9]), 0 end
  return tonumber(ARGV[3]), tonumber(ARGV[4])
end

local charges, underflows = {}, 0
for i = 5, #KEYS do
  local id, ep = string.match(ARGV[i + 7], '^([^|]+)|(%d+)$')
  local key, share = KEYS[i], shares[id]
  local _, its_unit, present, mw, mp, tw, tp, c = read(key)
  ep = share and share.ep or (ep ~= '0' and ep) or present or '0'
  local unit = share and share.unit or its_unit or 'usd'
  local aw, ap = amount(unit, share)
  local nothing = verb == 'expire' and aw == 0 and ap == 0
  local what = (verb == 'release' or nothing) and 'failed' or 'ok'
  if present == ep then  -- money of an old epoch never enters a new one
    c[1], c[2] = add(c[1], c[2], aw, ap)
    if unit == 'usd' and verb == 'settle' then
      c[3], c[4] = add(c[3], c[4], tonumber(ARGV[5]), tonumber(ARGV[6]))
      c[5], c[6] = add(c[5], c[6], tonumber(ARGV[7]), tonumber(ARGV[8]))
    elseif unit == 'usd' then
      c[3], c[4] = add(c[3], c[4], aw, ap)
    end
    if share then
      c[7], c[8] = sub(c[7], c[8], share.lw, share.lp)
      c[9], c[10] = sub(c[9], c[10], share.cw, share.cp)
      c[11] = c[11] - 1
      if c[7] < 0 or c[9] < 0 or c[11] < 0 then underflows = underflows + 1 end
      redis.call('ZREM', key .. ':h', record)
    end
    if what ~= 'failed' then what = state(c[1], c[2], mw, mp, tw, tp) end
    c[STATE[what]] = c[STATE[what]] + 1
    write(key, c)
  end
  charges[#charges + 1] = table.concat({id, ep, unit, s(aw), s(ap), what}, '|') .. ';'
end
local text = table.concat(charges)
redis.call('HSET', record, 'st', verb == 'expire' and 'expired' or 'settled', 'row', ARGV[2], 'lim', text)
redis.call('XADD', outbox, '*', 'kind', 'call', 'row', ARGV[2], 'lim', text)
redis.call('ZREM', holds, record)
if index ~= record then redis.call('SET', index, ARGV[11]) end
return {1, text, underflows}

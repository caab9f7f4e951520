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
  local v = redis.call('HMGET', key, 'ep', 'unit', 'mode', 'mw', 'mp', 'tw', 'tp', 'sw', 'sp', 'iw', 'ip', 'ow', 'op', 'lw', 'lp', 'cw', 'cp', 'n')
  numbers(v, 4)
  ep = share and share.ep or (ep ~= '0' and ep) or v[1] or '0'
  local unit = share and share.unit or v[2] or 'usd'
  local aw, ap = amount(unit, share)
  local nothing = verb == 'expire' and aw == 0 and ap == 0
  local what = (verb == 'release' or nothing) and 'failed' or 'ok'
  if v[1] == ep then  -- money of an old epoch never enters a new one
    v[8], v[9] = add(v[8], v[9], aw, ap)
    if unit == 'usd' and verb == 'settle' then
      v[10], v[11] = add(v[10], v[11], tonumber(ARGV[5]), tonumber(ARGV[6]))
      v[12], v[13] = add(v[12], v[13], tonumber(ARGV[7]), tonumber(ARGV[8]))
    elseif unit == 'usd' then
      v[10], v[11] = add(v[10], v[11], aw, ap)
    end
    if share then
      v[14], v[15] = sub(v[14], v[15], share.lw, share.lp)
      v[16], v[17] = sub(v[16], v[17], share.cw, share.cp)
      v[18] = v[18] - 1
      if v[14] < 0 or v[16] < 0 or v[18] < 0 then underflows = underflows + 1 end
      redis.call('ZREM', key .. ':h', record)
    end
    if what ~= 'failed' then what = state(v[8], v[9], v[4], v[5], v[6], v[7]) end
    redis.call('HSET', key, 'sw', s(v[8]), 'sp', s(v[9]), 'iw', s(v[10]), 'ip', s(v[11]), 'ow', s(v[12]), 'op', s(v[13]),
      'lw', s(v[14]), 'lp', s(v[15]), 'cw', s(v[16]), 'cp', s(v[17]), 'n', s(v[18]))
    redis.call('HINCRBY', key, what, 1)
  end
  charges[#charges + 1] = table.concat({id, ep, unit, s(aw), s(ap), what}, '|') .. ';'
end
local text = table.concat(charges)
redis.call('HSET', record, 'st', verb == 'expire' and 'expired' or 'settled', 'row', ARGV[2], 'lim', text)
redis.call('XADD', outbox, '*', 'kind', 'call', 'row', ARGV[2], 'lim', text)
redis.call('ZREM', holds, record)
if index ~= record then redis.call('SET', index, ARGV[11]) end
return {1, text, underflows}

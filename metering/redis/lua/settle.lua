-- End holds, each once: settle (the truth), release (nothing was used) or expire (nobody knows).
-- KEYS: 1 holds, 2 outbox, 3 generation, then of each call: record, index by provider id (or the record again), limit hashes
-- ARGV: of each call: 1 how many limits, 2 verb, 3 row, 4-5 total, 6-7 input, 8-9 output (usd), 10 tokens,
--       11 `due` (to expire, if it is time), `held` (there is a hold) or `any` (there may be none),
--       12 what the index says, 13 input and output of limits with own rates, then id and epoch of each
--       limit in the order of the keys (epoch 0: the present)
--       To expire, total, tokens and 13 are the floor: what is certain of the call.
-- Returns: of each call {1, charges, underflows, id of the outbox entry} done | {2, charges} done before | {3, charges} was expired:
--          correct it | {4} not due yet | {5} the hold is gone: ask the rows whether it had ended |
--          {-2, why} this one cannot be read
local holds, outbox

-- 1: read; no write.
local function look(k, a)
  local record, verb, when = KEYS[k], ARGV[a + 1], ARGV[a + 10]
  local r = redis_call('HMGET', record, 'st', 'lim', 'rt')
  local status = r[1]
  if status == 'expired' and verb ~= 'expire' then return {3, r[2]} end
  if status and status ~= 'held' then return {2, r[2]} end
  if not status and when == 'held' then return {5} end
  if when == 'due' then
    local deadline = redis_call('ZSCORE', holds, record)
    if not status or (deadline and tonumber(deadline) > now_ms()) then return {4} end
  end
  local shares = {}  -- what it holds, by limit id
  for id, ep, unit, mode, lw, lp, cw, cp in string.gmatch(r[2] or '', SHARE) do
    shares[id] = {ep = ep, unit = unit, mode = mode, lw = lw, lp = lp, cw = cw, cp = cp}
  end
  local call = {record = record, verb = verb, shares = shares, took = r[3], held = status and 1 or 0, rated = own_amounts(ARGV[a + 12])}
  for i = 1, tonumber(ARGV[a]) do call[i] = limit_of(KEYS[k + 1 + i]) or {} end
  return nil, call
end

local function amount(a, call, unit, share, rated)  -- what a limit is charged, as digits
  local verb = call.verb
  if verb == 'release' or unit == 'concurrent' then return '0', '0' end
  if unit == 'requests' then return '1', '0' end
  if verb == 'expire' and share and share.mode == 'hard' then return share.cw, share.cp end
  if unit == 'tokens' then return ARGV[a + 9], '0' end
  if rated then
    local w, p = add(rated[1], rated[2], rated[3], rated[4])
    return s(w), s(p)
  end
  return ARGV[a + 3], ARGV[a + 4]
end

-- 2: only writes that cannot fail.
local function charge(a, call, l, share, unit, aw, ap, rated)  -- gives how many counters fell below zero
  local c, underflows = l.c, 0
  c[1], c[2] = add(c[1], c[2], aw, ap)
  if unit == 'usd' and call.verb == 'settle' then
    local iw, ip, ow, op = ARGV[a + 5], ARGV[a + 6], ARGV[a + 7], ARGV[a + 8]
    if rated then iw, ip, ow, op = unpack(rated) end
    c[3], c[4] = add(c[3], c[4], iw, ip)
    c[5], c[6] = add(c[5], c[6], ow, op)
  elseif unit == 'usd' then
    c[3], c[4] = add(c[3], c[4], aw, ap)
  end
  if share then
    c[7], c[8] = sub(c[7], c[8], share.lw, share.lp)
    c[9], c[10] = sub(c[9], c[10], share.cw, share.cp)
    c[11] = c[11] - 1
    if l.mode ~= 'closed' and (c[7] < 0 or c[9] < 0 or c[11] < 0) then underflows = 1 end
    l.ended[#l.ended + 1] = call.record
  end
  l.changed = true
  return underflows
end

local function give_back(a, call)  -- to rates: a place, and the tokens that it did not use after all
  for kind, second, took, key in string.gmatch(call.took, '(%a+)|(%d+)|(%d+)|([^;]+);') do
    if kind == 'parallel' then
      redis_call('ZREM', key, call.record)
    elseif call.verb ~= 'expire' then
      local r, used = rate_of(key), call.verb == 'release' and 0 or ARGV[a + 9]
      if r[1] - second < SECONDS then count(r, second, used - took) end
    end
  end
end

local function finish(k, a, call)
  local charges, underflows, verb = '', 0, call.verb
  for i, l in ipairs(call) do
    local id, ep = ARGV[a + 11 + 2 * i], ARGV[a + 12 + 2 * i]
    local share = call.shares[id]
    ep = share and share.ep or (ep ~= '0' and ep) or l.into or '0'
    local unit = share and share.unit or l.unit or 'usd'
    local rated = call.rated and call.rated[id]
    local aw, ap = amount(a, call, unit, share, rated)
    local nothing = verb == 'release' or (verb == 'expire' and aw == '0' and ap == '0')
    local what = nothing and 'failed' or 'ok'
    if not share and l.ep and not l.width and unit ~= 'concurrent' and tonumber(ep) > tonumber(l.ep) then
      begin(l, ep)  -- a call without a hold is the first of its window
    end
    if counts(l.ep, l.width, ep) then  -- money of an old epoch never enters a new one
      local was = snapshot(l)
      underflows = underflows + charge(a, call, l, share, unit, aw, ap, rated)
      if not nothing then what = state(l.c[1], l.c[2], l.mw, l.mp, l.tw, l.tp) end
      l.c[STATE[what]] = l.c[STATE[what]] + 1
      book(l, ep, was)
    end
    charges = charges .. id .. '|' .. ep .. '|' .. unit .. '|' .. aw .. '|' .. ap .. '|' .. what .. ';'
  end
  local record, row, index = call.record, ARGV[a + 2], KEYS[k + 1]
  redis_call('HSET', record, 'st', verb == 'expire' and 'expired' or 'settled', 'row', row, 'lim', charges)
  local kind = ARGV[a + 10] == 'any' and 'replayed' or 'call'
  local entry = append(outbox, KEYS[3], 'kind', kind, 'row', row, 'lim', charges)
  if index ~= record then redis_call('SET', index, ARGV[a + 11]) end
  if call.took then give_back(a, call) end
  return {1, charges, underflows, entry}
end

local function run()
  holds, outbox = KEYS[1], KEYS[2]
  local replies, ended, had, k, a = {}, {}, 0, 4, 1
  while k <= #KEYS do
    local n = tonumber(ARGV[a])
    local readable, reply, call = pcall(look, k, a)
    if not readable then
      reply = cannot_be_read(reply)
    elseif call then
      reply = finish(k, a, call)
      ended[#ended + 1] = call.record
      had = had + call.held
    end
    replies[#replies + 1] = reply
    k, a = k + 2 + n, a + 13 + 2 * n
  end
  save_all()
  -- a hold that has no deadline was evicted with those of others
  if #ended > 0 and redis_call('ZREM', holds, unpack(ended)) < had then redis_call('SET', KEYS[3], 'lost') end
  return replies
end
return run()

-- End holds, each once: settle (the truth), release (nothing was used) or expire (nobody knows).
-- KEYS: 1 holds, 2 outbox, 3 generation, then of each call: record, index by provider id (or the record again), limit hashes
-- ARGV: of each call: 1 how many limits, 2 verb, 3 row, 4-5 total, 6-7 input, 8-9 output (usd), 10 tokens,
--       11 `due` (to expire, if it is time), `held` (there is a hold) or `any` (there may be none),
--       12 what the index says, 13 input and output of limits with own rates, then id and epoch of each
--       limit in the order of the keys (epoch 0: the present)
--       To expire, total, tokens and 13 are the floor: what is certain of the call.
-- Returns: of each call 'id of the outbox entry|underflows|what the index said of another call|charges' done |
--          {2, charges} done before | {3, charges} was expired: correct it | {4} not due yet |
--          {5} the hold is gone: ask the rows whether it had ended | {-2, why} this one cannot be read
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
  local call = {record = record, verb = verb, shares = ';' .. (r[2] or ''), took = r[3], held = status and 1 or 0, rated = own_amounts(ARGV[a + 12])}
  for i = 1, tonumber(ARGV[a]) do call[i] = limit_of(KEYS[k + 1 + i]) or {} end
  return nil, call
end

-- What a call holds of a limit: epoch, unit, mode, likely w, p, ceiling w, p; nil: nothing.
local HELD = '^(%d+)|(%a+)|(%a+)|(%d+)|(%d+)|(%d+)|(%d+);'
local function share_of(shares, id)
  local _, at = string.find(shares, ';' .. id .. '|', 1, true)
  if not at then return end
  local _, _, ep, unit, mode, lw, lp, cw, cp = string.find(shares, HELD, at + 1)
  return ep, unit, mode, lw, lp, cw, cp
end

local function amount(a, verb, unit, rated, mode, cw, cp)  -- what a limit is charged, as digits
  if verb == 'release' or unit == 'concurrent' then return '0', '0' end
  if unit == 'requests' then return '1', '0' end
  if mode == 'hard' and verb == 'expire' then return cw, cp end
  if unit == 'tokens' then return ARGV[a + 9], '0' end
  if rated then
    local w, p = add(rated[1], rated[2], rated[3], rated[4])
    return s(w), s(p)
  end
  return ARGV[a + 3], ARGV[a + 4]
end

-- 2: only writes that cannot fail.
local function charge(a, verb, c, unit, aw, ap, rated)
  c[1], c[2] = add(c[1], c[2], aw, ap)
  if unit ~= 'usd' then return end
  local iw, ip, ow, op = aw, ap, 0, 0
  if verb == 'settle' and rated then
    iw, ip, ow, op = unpack(rated)
  elseif verb == 'settle' then
    iw, ip, ow, op = ARGV[a + 5], ARGV[a + 6], ARGV[a + 7], ARGV[a + 8]
  end
  c[3], c[4] = add(c[3], c[4], iw, ip)
  c[5], c[6] = add(c[5], c[6], ow, op)
end

local function free(call, l, c, lw, lp, cw, cp)  -- gives how many counters fell below zero
  c[7], c[8] = sub(c[7], c[8], lw, lp)
  c[9], c[10] = sub(c[9], c[10], cw, cp)
  c[11] = c[11] - 1
  l.ended = note(l.ended, call.record)
  if (c[7] < 0 or c[9] < 0 or c[11] < 0) and l.mode ~= 'closed' then return 1 end
  return 0
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
    local id, epoch = ARGV[a + 11 + 2 * i], ARGV[a + 12 + 2 * i]
    local ep, unit, mode, lw, lp, cw, cp = share_of(call.shares, id)
    local holds_some, rated = ep, call.rated and call.rated[id]
    ep, unit = ep or (epoch ~= '0' and epoch) or l.into or '0', unit or l.unit or 'usd'
    local aw, ap = amount(a, verb, unit, rated, mode, cw, cp)
    local nothing = verb ~= 'settle' and aw == '0' and ap == '0'
    local what = nothing and 'failed' or 'ok'
    if not holds_some and l.ep and not l.width and unit ~= 'concurrent' and tonumber(ep) > tonumber(l.ep) then
      begin(l, ep)  -- a call without a hold is the first of its window
    end
    if counts(l.ep, l.width, ep) then  -- money of an old epoch never enters a new one
      local c, was = l.c, snapshot(l)
      charge(a, verb, c, unit, aw, ap, rated)
      if holds_some then underflows = underflows + free(call, l, c, lw, lp, cw, cp) end
      if not nothing then what = state(c[1], c[2], l.mw, l.mp, l.tw, l.tp) end
      c[STATE[what]] = c[STATE[what]] + 1
      l.changed = true
      book(l, ep, was)
    end
    charges = charges .. id .. '|' .. ep .. '|' .. unit .. '|' .. aw .. '|' .. ap .. '|' .. what .. ';'
  end
  local record, row, index = call.record, ARGV[a + 2], KEYS[k + 1]
  redis_call('HSET', record, 'st', verb == 'expire' and 'expired' or 'settled', 'row', row, 'lim', charges)
  local kind = ARGV[a + 10] == 'any' and 'replayed' or 'call'
  local entry = append(outbox, KEYS[3], 'kind', kind, 'row', row, 'lim', charges)
  local former = index ~= record and redis_call('SET', index, ARGV[a + 11], 'GET')
  if call.took then give_back(a, call) end
  if former == ARGV[a + 11] then former = nil end
  return entry .. (underflows == 0 and '|0|' or '|' .. s(underflows) .. '|') .. (former or '') .. '|' .. charges
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

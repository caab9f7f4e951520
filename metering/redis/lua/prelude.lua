-- Exact arithmetic, put before every script. An amount is (whole, part): whole USD floored and
-- pico 0..10^12-1 for money, (count, 0) for other units; so every Lua number stays below 2^53.
-- Amounts from arguments and records may stay the digits they are: arithmetic takes them as numbers.
-- KEYS: none. ARGV: none. Returns: nothing (defines locals).
local redis_call, tonumber, format, unpack, KEYS, ARGV = redis.call, tonumber, string.format, unpack, KEYS, ARGV
local B = 1000000000000
local function add(aw, ap, bw, bp)
  local w, p = aw + bw, ap + bp
  if p >= B then return w + 1, p - B end
  return w, p
end
local function sub(aw, ap, bw, bp)  -- below zero is kept, floored, never clamped: the caller alarms
  local w, p = aw - bw, ap - bp
  if p < 0 then return w - 1, p + B end
  return w, p
end
local function gt(aw, ap, bw, bp) return aw > bw or (aw == bw and ap > bp) end
local function ge(aw, ap, bw, bp) return aw > bw or (aw == bw and ap >= bp) end
local function s(n) return format('%.0f', n) end
local function now_ms()
  local t = redis_call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
-- A limit hash: mode, unit, ep (its epoch), def (max, threshold) and cnt, the counters, packed: one
-- field is read and written in a fraction of the time of seventeen. Each is a double that is whole.
local DEF, CNT = '<dddd', '<ddddddddddddddddd'
-- 1-2 settled, 3-4 input, 5-6 output, 7-8 likely and 9-10 ceilings of live holds, 11 how many
local STATE = {ok = 12, exceeded = 13, overrun = 14, blocked = 15, blocked_external = 16, failed = 17}
local function read(key)  -- mode, unit, epoch, max whole, part, threshold whole, part, counters
  local v = redis_call('HMGET', key, 'mode', 'unit', 'ep', 'def', 'cnt')
  if not v[1] then return end
  local mw, mp, tw, tp = struct.unpack(DEF, v[4])
  return v[1], v[2], v[3], mw, mp, tw, tp, {struct.unpack(CNT, v[5])}
end
local function write(key, c) redis_call('HSET', key, 'cnt', struct.pack(CNT, unpack(c, 1, 17))) end
-- The limits of a batch of calls: each is read once, then it is as the calls so far have left it,
-- and is written once. `held`: when each new hold should end, and its record; `ended`: records.
local batch = {}
local function limit_of(key)  -- nil: not loaded
  local l = batch[key]
  if not l then
    local mode, unit, ep, mw, mp, tw, tp, c = read(key)
    if not mode then return end
    l = {key = key, mode = mode, unit = unit, ep = ep, mw = mw, mp = mp, tw = tw, tp = tp, c = c,
         changed = false, held = {}, ended = {}, kind = '|' .. ep .. '|' .. unit .. '|'}
    batch[key] = l
  end
  return l
end
local function save(l)
  if l.changed then write(l.key, l.c) end
  if #l.held > 0 then redis_call('ZADD', l.key .. ':h', unpack(l.held)) end
  if #l.ended > 0 then redis_call('ZREM', l.key .. ':h', unpack(l.ended)) end
  l.changed, l.held, l.ended = false, {}, {}
end
-- What a rate counts in each of the last 61 seconds, packed: the newest second, then counts by second
-- modulo 61, so that no 60 s have more than its max. Read once and written once, like limits.
local SECONDS = 61
local RATE, NO_RATE_YET = '<' .. string.rep('d', SECONDS + 1), string.rep('\0', 8 * (SECONDS + 1))
local rates = {}
local function rate_of(key, now)
  local r = rates[key]
  if not r then
    r = {struct.unpack(RATE, redis_call('GET', key) or NO_RATE_YET)}
    rates[key] = r
    local second = math.floor(now / 1000)
    for t = math.max(r[1] + 1, second - SECONDS + 1), second do r[2 + t % SECONDS] = 0 end
    r[1] = math.max(r[1], second)  -- a clock that was set back counts on in the newest second
  end
  return r
end
local function count(r, second, n)  -- below zero is nothing: what is given back was taken
  local i = 2 + second % SECONDS
  r[i] = math.max(0, r[i] + n)
  r.changed = true
end
local function save_all()
  for _, l in pairs(batch) do save(l) end
  for key, r in pairs(rates) do
    if r.changed then
      redis_call('SET', key, struct.pack(RATE, unpack(r, 1, SECONDS + 1)), 'PX', s(SECONDS * 1000))
    end
  end
end
local function cannot_be_read(fault)  -- what pcall gives of a call whose keys are not what they should be
  return {-2, type(fault) == 'table' and (fault.err or fault[1]) or tostring(fault)}
end
-- A hold's share of one limit, as kept in the record: id|epoch|unit|mode|likely w|p|ceiling w|p;
local SHARE = '([^|;]+)|(%d+)|(%a+)|(%a+)|(%d+)|(%d+)|(%d+)|(%d+);'
-- Two amounts in usd of each limit with own rates, id|whole|pico|whole|pico;... as they come: nearly never.
local OWN = '([^|;]+)|(%-?%d+)|(%d+)|(%-?%d+)|(%d+);'
local function own_amounts(text)  -- by limit id; nil where there are none
  if not text or text == '' then return end
  local found = {}
  for id, aw, ap, bw, bp in string.gmatch(text, OWN) do found[id] = {aw, ap, bw, bp} end
  return found
end
local function state(sw, sp, mw, mp, tw, tp)
  if gt(sw, sp, mw, mp) then return 'overrun' end
  if ge(sw, sp, tw, tp) then return 'exceeded' end
  return 'ok'
end

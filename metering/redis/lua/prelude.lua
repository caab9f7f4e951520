-- Exact arithmetic, put before every script. An amount is (whole, part): whole USD floored and
-- pico 0..10^12-1 for money, (count, 0) for other units; so every Lua number stays below 2^53.
-- Amounts from arguments and records may stay the digits they are: arithmetic takes them as numbers.
-- KEYS: none. ARGV: none. Returns: nothing (defines locals).
local KEYS, ARGV, redis_call = KEYS, ARGV, redis.call
local tonumber, format, unpack = tonumber, string.format, unpack
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
local function s(n) return format('%d', n) end  -- a quarter of what %.0f takes
local moment  -- of this run, by the server's clock: asked for by what needs it
local function now_ms()
  if not moment then
    local t = redis_call('TIME')
    moment = t[1] * 1000 + math.floor(t[2] / 1000)
  end
  return moment
end
-- A limit hash: `is`, what it is, and `cnt`, its counters, each packed: a field that is long is read and written
-- in a fraction of the time of many. Numbers are doubles that are whole. A rolling window's parts are `width` ms
-- long (0: it has none). While its counters are being rebuilt its mode is `closed`, and the field `open` says
-- which one it will be: it admits nothing, but what ends meanwhile is counted, from zero, so that amounts may be
-- below it.
local IS, CNT = '<dddddsss', '<ddddddddddddddddd'
-- IS: max whole, part, threshold whole, part, width, mode, unit, epoch. CNT:
-- 1-2 settled, 3-4 input, 5-6 output, 7-8 likely and 9-10 ceilings of live holds, 11 how many
local STATE = {ok = 12, exceeded = 13, overrun = 14, blocked = 15, blocked_external = 16, failed = 17}
local function read(key)  -- mode, unit, epoch, max whole, part, threshold whole, part, counters, width
  local v = redis_call('HMGET', key, 'is', 'cnt')
  if not v[1] then return end
  local mw, mp, tw, tp, width, mode, unit, ep = struct.unpack(IS, v[1])
  return mode, unit, ep, mw, mp, tw, tp, {struct.unpack(CNT, v[2])}, width > 0 and width
end
local function write(key, c) redis_call('HSET', key, 'cnt', struct.pack(CNT, unpack(c, 1, 17))) end
local function say(l)  -- what it is now
  redis_call('HSET', l.key, 'is', struct.pack(IS, l.mw, l.mp, l.tw, l.tp, l.width or 0, l.mode, l.unit, l.ep))
end
-- A rolling window's parts, in a hash beside its limit: `oldest`, the number of the first that counts, and
-- by epoch what came in then, packed: settled, input, output, states. Their sum is in the counters.
local PARTS, PART, NOTHING_YET = 60, '<dddddddddddd', string.rep('\0', 8 * 12)
local function age(l)  -- what is older than the window leaves the counters
  local oldest, key, c = math.floor(now_ms() / l.width) - PARTS, l.key .. ';w', l.c
  l.oldest = tonumber(redis_call('HGET', key, 'oldest') or 0)
  if l.oldest >= oldest then return end
  local parts = redis_call('HGETALL', key)
  for i = 1, #parts, 2 do
    if parts[i] ~= 'oldest' and math.floor(parts[i] / l.width) < oldest then
      local p = {struct.unpack(PART, parts[i + 1])}
      for j = 1, 5, 2 do c[j], c[j + 1] = sub(c[j], c[j + 1], p[j], p[j + 1]) end
      for j = 7, 12 do c[j + 5] = c[j + 5] - p[j] end
      redis_call('HDEL', key, parts[i])
    end
  end
  redis_call('HSET', key, 'oldest', s(oldest))
  l.oldest = oldest
  write(l.key, c)
end
-- Whether what came in in an epoch counts in the present one: it is that, or a part of a rolling window.
local function counts(present, width, ep)
  return present == ep or (width and tonumber(ep) > tonumber(present))
end
local function snapshot(l) return l.width and {unpack(l.c, 1, 17)} end
local function book(l, ep, was)  -- put what has changed since into its part; it leaves again with that
  if not was then return end
  local c = l.c
  if math.floor(ep / l.width) < l.oldest then  -- it has left already
    for j = 1, 17 do
      if j < 7 or j > 11 then c[j] = was[j] end
    end
    return
  end
  local p = l.parts[ep] or {struct.unpack(PART, redis_call('HGET', l.key .. ';w', ep) or NOTHING_YET)}
  l.parts[ep] = p
  for j = 1, 5, 2 do p[j], p[j + 1] = add(p[j], p[j + 1], sub(c[j], c[j + 1], was[j], was[j + 1])) end
  for j = 7, 12 do p[j] = p[j] + c[j + 5] - was[j + 5] end
end
-- The limits of a batch of calls: each is read once, then it is as the calls so far have left it,
-- and is written once. `held`: when each new hold should end, and its record; `ended`: records; `into`:
-- the epoch of what comes in now.
local batch = {}
local function limit_of(key)  -- nil: not loaded
  local l = batch[key]
  if not l then
    local mode, unit, ep, mw, mp, tw, tp, c, width = read(key)
    if not mode then return end
    l = {key = key, mode = mode, unit = unit, ep = ep, mw = mw, mp = mp, tw = tw, tp = tp, c = c, width = width,
         changed = false, into = ep}
    if width then
      l.parts = {}
      age(l)
      local newest = math.max(math.floor(now_ms() / width), l.oldest + PARTS)  -- the clock may have been set back
      if newest * width > tonumber(ep) then l.into = s(newest * width) end
    end
    batch[key] = l
  end
  return l
end
local function note(list, one, other)  -- gives the list, begun if there is none: most have one entry
  if not list then return {one, other} end
  list[#list + 1] = one
  list[#list + 1] = other
  return list
end
local function begin(l, ep)  -- a later epoch, with empty counters; calls in flight settle into the old one
  l.ep, l.into = ep, ep
  for i = 1, 17 do l.c[i] = 0 end
  l.begun, l.changed, l.held, l.ended = true, true, nil, nil
end
-- Begin the window that is now, by this clock, if it is not the present one. The proxy, whose clock may
-- differ, says when three of them begin: before|present|next.
local STARTS = '([^|;]+)|(%d+)|(%d+)|(%d+);'
local function roll(l, first, second, third)
  local now = now_ms()
  local start = now >= tonumber(third) and third or now >= tonumber(second) and second or first
  if tonumber(start) > tonumber(l.ep) then begin(l, start) end
end
local function save(l)
  if l.begun then
    say(l)
    redis_call('DEL', l.key .. ';h')
    l.begun = false
  end
  if l.changed then
    write(l.key, l.c)
    l.changed = false
  end
  if l.held then
    redis_call('ZADD', l.key .. ';h', unpack(l.held))
    l.held = nil
  end
  if l.ended then
    redis_call('ZREM', l.key .. ';h', unpack(l.ended))
    l.ended = nil
  end
  if l.width then
    for ep, p in pairs(l.parts) do redis_call('HSET', l.key .. ';w', ep, struct.pack(PART, unpack(p, 1, 12))) end
    l.parts = {}
  end
end
-- What a rate counts in each of the last 61 seconds, packed: the newest second, then counts by second
-- modulo 61, so that no 60 s have more than its max. Read once and written once, like limits.
local SECONDS = 61
local RATE, NO_RATE_YET = '<' .. string.rep('d', SECONDS + 1), string.rep('\0', 8 * (SECONDS + 1))
local rates = {}
local function rate_of(key)
  local r = rates[key]
  if not r then
    r = {struct.unpack(RATE, redis_call('GET', key) or NO_RATE_YET)}
    rates[key] = r
    local second = math.floor(now_ms() / 1000)
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
-- Append to an outbox. One that is not there has been lost, with rows that had not landed: then this generation
-- of what Redis knows ends, before anybody takes them for landed.
local function append(outbox, generation, ...)
  local entry = redis_call('XADD', outbox, 'NOMKSTREAM', '*', ...)
  if entry then return entry end
  redis_call('SET', generation, 'lost')
  return redis_call('XADD', outbox, '*', ...)
end

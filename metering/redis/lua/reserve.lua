-- Decide calls in turn; each holds all of its limits or none. A refusal leaves its row.
-- KEYS: 1 holds (zset by deadline), 2 outbox (stream), 3 generation, then of each call: record, limit hashes
-- ARGV: 1 ttl ms, 2 the generation the worker knows ('': any), then of each call: 1 how many limits, 2 expected duration ms, 3 row, 4-5 likely,
--       6-7 ceiling (usd), 8 likely tokens, 9 ceiling tokens, 10 likely and ceiling of limits with own
--       rates, 11 rate limits (kind|max|needed|key;), 12 windows of its limits on the calendar
--       (id|before|present|next;), limit ids in the order of the keys. A rate's key is of the same shard.
-- Returns: of each call {1, epochs} held | {2, status} known already | {-1, i} limit i is not loaded, or still being
--          rebuilt | {-4} another generation: what limits counted may be lost |
--          {-2, why} this one cannot be read | {-3, kind, key, max, used, needed, retry_ms} comes too soon, which
--          leaves nothing | {0, final, retry_ms, charges, why} refused; `why` is of each limit that blocks
--          id|epoch|unit|mode|max w|p|settled w|p|held w|p|needed w|p|holds|room ms;  `room` is of a rolling
--          window that is used up: when enough has left it; 0: never, or of none such
local holds, outbox, now, known
local fresh  -- the records of this run: they are put among the holds at its end

local function retry_ms(key)  -- how long until half of a limit's live holds are expected to end
  local n = redis_call('ZCARD', key .. ';h')
  if n == 0 then return 0 end
  local mid = math.floor(n / 2)
  return redis_call('ZRANGE', key .. ';h', mid, mid, 'WITHSCORES')[2] - now
end

local function room_ms(l, w, p)  -- when so much has left a rolling window that w, p more has room; 0: it never has
  if not l.leaving then
    local parts = redis_call('HGETALL', l.key .. ';w')
    l.leaving = {}
    for i = 1, #parts, 2 do
      if parts[i] ~= 'oldest' then
        local settled_w, settled_p = struct.unpack(PART, parts[i + 1])
        l.leaving[#l.leaving + 1] = {tonumber(parts[i]), settled_w, settled_p}
      end
    end
    table.sort(l.leaving, function(one, other) return one[1] < other[1] end)
  end
  local fw, fp = add(l.c[1], l.c[2], w, p)
  for _, part in ipairs(l.leaving) do
    fw, fp = sub(fw, fp, part[2], part[3])
    if not gt(fw, fp, l.mw, l.mp) then return (math.floor(part[1] / l.width) + PARTS + 1) * l.width end
  end
  return 0
end

local function own(unit, a, rated)  -- likely and ceiling of a call in a limit's unit, as digits
  if rated and unit == 'usd' then return unpack(rated) end
  if unit == 'usd' then return ARGV[a + 3], ARGV[a + 4], ARGV[a + 5], ARGV[a + 6] end
  if unit == 'tokens' then return ARGV[a + 7], '0', ARGV[a + 8], '0' end
  return '1', '0', '1', '0'
end

local function under_way(key)  -- how many calls hold a place; none that has ended, whoever forgot to give it back
  for _, record in ipairs(redis_call('ZRANGE', key, 0, 15)) do
    if not fresh[record] and not redis_call('ZSCORE', holds, record) then redis_call('ZREM', key, record) end
  end
  return redis_call('ZCARD', key)
end

local function too_soon(kind, key, max, needed)  -- how much is used, and for how long there is no room; nil: there is
  if kind == 'parallel' then
    if redis_call('ZCARD', key) + needed <= max then return end
    local used = under_way(key)
    if used + needed > max then return used, 1000 end
    return
  end
  local r, used = rate_of(key), 0
  for i = 2, SECONDS + 1 do used = used + r[i] end
  if used + needed <= max then return end
  local left, second = used, r[1] - SECONDS
  while left + needed > max and second < r[1] do
    second = second + 1
    left = left - r[2 + second % SECONDS]
  end
  return used, (second + SECONDS) * 1000 - now
end

local function throttled(text)  -- the first of a call's rates that it would exceed, as a reply; else its rates
  local found = {}
  for kind, max, needed, key in string.gmatch(text, '(%a+)|(%d+)|(%d+)|([^;]+);') do
    max, needed = tonumber(max), tonumber(needed)
    local used, wait = too_soon(kind, key, max, needed)
    if used then return {-3, kind, key, s(max), s(used), s(needed), s(wait)} end
    found[#found + 1] = {kind = kind, key = key, needed = needed}
  end
  return nil, found
end

local function windows_of(text)  -- when a call's limits on the calendar begin, by id
  local found = {}
  for id, first, second, third in string.gmatch(text, STARTS) do found[id] = {first, second, third} end
  return found
end

-- 1: read and decide; no write but of what calls before this one have come to.
local function decide(k, a)
  local status = redis_call('HGET', KEYS[k], 'st')
  if status then return {2, status} end
  if not known and ARGV[a] ~= '0' then return {-4} end
  local call, rated = {blocked = false, final = 0, retry_ms = 0}, own_amounts(ARGV[a + 9])
  if ARGV[a + 10] ~= '' then
    local reply, found = throttled(ARGV[a + 10])
    if reply then return reply end
    call.rates = found
  end
  local windows = ARGV[a + 11] ~= '' and windows_of(ARGV[a + 11])
  for i = 1, tonumber(ARGV[a]) do
    local l = limit_of(KEYS[k + i])
    if not l or l.mode == 'closed' then return {-1, i} end
    local id = ARGV[a + 11 + i]
    local window = windows and windows[id]
    if window then roll(l, window[1], window[2], window[3]) end
    local lw, lp, cw, cp = own(l.unit, a, rated and rated[id])
    local mine = {limit = l, id = id, lw = lw, lp = lp, cw = cw, cp = cp, blocked = false}
    call[i] = mine
    if l.mode ~= 'allow' then
      local c = l.c
      local hw, hp, ow, op = c[7], c[8], 0, 0  -- block: likely cost in flight, the own not counted
      if l.unit == 'requests' or l.unit == 'concurrent' then ow = 1
      elseif l.mode == 'hard' then hw, hp, ow, op = c[9], c[10], cw, cp end
      local fw, fp = add(c[1], c[2], ow, op)
      local tw, tp = add(fw, fp, hw, hp)
      if gt(tw, tp, l.mw, l.mp) then
        local room = 0
        if gt(fw, fp, l.mw, l.mp) then
          call.final = 1
          if l.width then room = room_ms(l, ow, op) end
        end
        save(l)
        call.retry_ms = math.max(call.retry_ms, retry_ms(l.key))
        local why = mine.id .. '|' .. l.into .. '|' .. l.unit .. '|' .. l.mode
        for _, n in ipairs({l.mw, l.mp, c[1], c[2], hw, hp, ow, op, c[11], room}) do why = why .. '|' .. s(n) end
        call.blocked = (call.blocked or '') .. why .. ';'
        mine.blocked = true
      end
    end
  end
  return nil, call
end

-- 2: only writes that cannot fail.
local function refuse(record, row, call)
  local charges = ''
  for _, mine in ipairs(call) do
    local l = mine.limit
    local what = mine.blocked and 'blocked' or 'blocked_external'
    local was = snapshot(l)
    l.c[STATE[what]] = l.c[STATE[what]] + 1
    book(l, l.into, was)
    l.changed = true
    charges = charges .. mine.id .. '|' .. l.into .. '|' .. l.unit .. '|0|0|' .. what .. ';'
  end
  redis_call('HSET', record, 'st', 'blocked', 'row', row, 'lim', charges, 'why', call.blocked)
  append(outbox, KEYS[3], 'kind', 'blocked', 'row', row, 'lim', charges, 'why', call.blocked)
  return {0, call.final, s(call.retry_ms), charges, call.blocked}
end

local function take(record, found)  -- gives what there is to undo of it when the call ends
  local second, text = 0, ''
  for _, it in ipairs(found) do
    if it.kind == 'parallel' then
      redis_call('ZADD', it.key, s(now), record)
      fresh[record] = true
    else
      local r = rate_of(it.key)
      second = r[1]
      count(r, second, it.needed)
    end
    if it.kind ~= 'requests' then
      text = text .. it.kind .. '|' .. s(second) .. '|' .. s(it.needed) .. '|' .. it.key .. ';'
    end
  end
  if text ~= '' then redis_call('HSET', record, 'rt', text) end
end

local function hold(record, row, ends, call)
  local shares, epochs = '', ''
  for i, mine in ipairs(call) do
    local l = mine.limit
    local c = l.c
    c[7], c[8] = add(c[7], c[8], mine.lw, mine.lp)
    c[9], c[10] = add(c[9], c[10], mine.cw, mine.cp)
    c[11] = c[11] + 1
    l.changed = true
    l.held = note(l.held, ends, record)
    shares = shares .. mine.id .. '|' .. l.into .. '|' .. l.unit .. '|' .. l.mode
      .. '|' .. mine.lw .. '|' .. mine.lp .. '|' .. mine.cw .. '|' .. mine.cp .. ';'
    epochs = i == 1 and l.into or epochs .. ',' .. l.into
  end
  redis_call('HSET', record, 'st', 'held', 'row', row, 'lim', shares)
  if call.rates then take(record, call.rates) end
  return {1, epochs}
end

local function run()
  holds, outbox, now, fresh = KEYS[1], KEYS[2], now_ms(), {}
  known = ARGV[2] == '' or redis_call('GET', KEYS[3]) == ARGV[2]
  local replies, held, k, a = {}, {}, 4, 3
  local deadline = s(now + ARGV[1])
  while k <= #KEYS do
    local n, record, row = tonumber(ARGV[a]), KEYS[k], ARGV[a + 2]
    local readable, reply, call = pcall(decide, k, a)
    if not readable then
      reply = cannot_be_read(reply)
    elseif call and call.blocked then
      reply = refuse(record, row, call)
    elseif call then
      reply = hold(record, row, s(now + ARGV[a + 1]), call)
      held[#held + 1] = deadline
      held[#held + 1] = record
    end
    replies[#replies + 1] = reply
    k, a = k + 1 + n, a + 12 + n
  end
  save_all()
  if #held > 0 then redis_call('ZADD', holds, unpack(held)) end
  return replies
end
return run()

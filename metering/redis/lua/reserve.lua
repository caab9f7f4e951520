-- Decide all limits of a call and hold them, all or nothing; a refusal leaves its row.
-- KEYS: 1 record, 2 holds (zset by deadline), 3 outbox (stream), 4.. limit hashes
-- ARGV: 1 ttl ms, 2 expected duration ms, 3 row, 4-5 likely, 6-7 ceiling (usd), 8 likely tokens,
--       9 ceiling tokens, 10.. limit ids in the order of the keys
-- Returns: {1, epochs} held | {2, status} known already | {-1, i} limit i is not loaded |
--          {0, final, retry_ms, charges, id, max w, p, settled w, p, held w, p, needed w, p, holds, ...}
local record, holds, outbox = KEYS[1], KEYS[2], KEYS[3]
local known = redis.call('HGET', record, 'st')
if known then return {2, known} end
local now = now_ms()

local function own(unit, w, p, tokens)
  if unit == 'usd' then return w, p elseif unit == 'tokens' then return tokens, 0 end
  return 1, 0
end

-- 1: read and decide; no write.
local limits, blocked, final, retry_ms = {}, {}, 0, 0
for i = 4, #KEYS do
  local mode, unit, ep, mw, mp, _, _, c = read(KEYS[i])
  if not mode then return {-1, i - 3} end
  local lw, lp = own(unit, tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[8]))
  local cw, cp = own(unit, tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[9]))
  limits[i] = {mode = mode, unit = unit, ep = ep, c = c, lw = lw, lp = lp, cw = cw, cp = cp}
  if mode ~= 'allow' then
    local hw, hp, ow, op = c[7], c[8], 0, 0  -- block: likely cost in flight, the own not counted
    if unit == 'requests' or unit == 'concurrent' then ow = 1
    elseif mode == 'hard' then hw, hp, ow, op = c[9], c[10], cw, cp end
    local fw, fp = add(c[1], c[2], ow, op)
    local tw, tp = add(fw, fp, hw, hp)
    if gt(tw, tp, mw, mp) then
      if gt(fw, fp, mw, mp) then final = 1 end
      local n = redis.call('ZCARD', KEYS[i] .. ':h')
      if n > 0 then
        local mid = math.floor(n / 2)
        local left = tonumber(redis.call('ZRANGE', KEYS[i] .. ':h', mid, mid, 'WITHSCORES')[2]) - now
        retry_ms = math.max(retry_ms, left)
      end
      blocked[#blocked + 1] = {ARGV[i + 6], mw, mp, c[1], c[2], hw, hp, ow, op, c[11]}
      limits[i].blocked = true
    end
  end
end

-- 2: only writes that cannot fail.
if #blocked > 0 then
  local charges = ''
  for i = 4, #KEYS do
    local l = limits[i]
    local what = l.blocked and 'blocked' or 'blocked_external'
    l.c[STATE[what]] = l.c[STATE[what]] + 1
    write(KEYS[i], l.c)
    charges = charges .. ARGV[i + 6] .. '|' .. l.ep .. '|' .. l.unit .. '|0|0|' .. what .. ';'
  end
  redis.call('HSET', record, 'st', 'blocked', 'row', ARGV[3], 'lim', charges)
  redis.call('XADD', outbox, '*', 'kind', 'blocked', 'row', ARGV[3], 'lim', charges)
  local reply = {0, final, s(retry_ms), charges}
  for _, b in ipairs(blocked) do
    reply[#reply + 1] = b[1]
    for j = 2, 10 do reply[#reply + 1] = s(b[j]) end
  end
  return reply
end
local shares, epochs = {}, {}
for i = 4, #KEYS do
  local l = limits[i]
  local c = l.c
  c[7], c[8] = add(c[7], c[8], l.lw, l.lp)
  c[9], c[10] = add(c[9], c[10], l.cw, l.cp)
  c[11] = c[11] + 1
  write(KEYS[i], c)
  redis.call('ZADD', KEYS[i] .. ':h', s(now + ARGV[2]), record)
  shares[#shares + 1] = table.concat({ARGV[i + 6], l.ep, l.unit, l.mode, s(l.lw), s(l.lp), s(l.cw), s(l.cp)}, '|') .. ';'
  epochs[#epochs + 1] = l.ep
end
redis.call('HSET', record, 'st', 'held', 'row', ARGV[3], 'lim', table.concat(shares), 'fw', 0, 'fp', 0, 'ft', 0)
redis.call('ZADD', holds, s(now + ARGV[1]), record)
return {1, table.concat(epochs, ',')}

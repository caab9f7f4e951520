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
  local v = redis.call('HMGET', KEYS[i], 'mode', 'unit', 'ep', 'mw', 'mp', 'sw', 'sp', 'lw', 'lp', 'cw', 'cp', 'n')
  if not v[1] then return {-1, i - 3} end
  numbers(v, 4)
  local mode, unit = v[1], v[2]
  local lw, lp = own(unit, tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[8]))
  local cw, cp = own(unit, tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[9]))
  limits[i] = {v = v, lw = lw, lp = lp, cw = cw, cp = cp}
  if mode ~= 'allow' then
    local hw, hp, ow, op = v[8], v[9], 0, 0  -- block: likely cost in flight, the own not counted
    if unit == 'requests' or unit == 'concurrent' then ow = 1
    elseif mode == 'hard' then hw, hp, ow, op = v[10], v[11], cw, cp end
    local fw, fp = add(v[6], v[7], ow, op)
    local tw, tp = add(fw, fp, hw, hp)
    if gt(tw, tp, v[4], v[5]) then
      if gt(fw, fp, v[4], v[5]) then final = 1 end
      local n = redis.call('ZCARD', KEYS[i] .. ':h')
      if n > 0 then
        local mid = math.floor(n / 2)
        local left = tonumber(redis.call('ZRANGE', KEYS[i] .. ':h', mid, mid, 'WITHSCORES')[2]) - now
        retry_ms = math.max(retry_ms, left)
      end
      blocked[#blocked + 1] = {ARGV[i + 6], v[4], v[5], v[6], v[7], hw, hp, ow, op, v[12]}
      limits[i].blocked = true
    end
  end
end

-- 2: only writes that cannot fail.
if #blocked > 0 then
  local charges = ''
  for i = 4, #KEYS do
    local what = limits[i].blocked and 'blocked' or 'blocked_external'
    redis.call('HINCRBY', KEYS[i], what, 1)
    charges = charges .. ARGV[i + 6] .. '|' .. limits[i].v[3] .. '|' .. limits[i].v[2] .. '|0|0|' .. what .. ';'
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
  local v = l.v
  local lw, lp = add(v[8], v[9], l.lw, l.lp)
  local cw, cp = add(v[10], v[11], l.cw, l.cp)
  redis.call('HSET', KEYS[i], 'lw', s(lw), 'lp', s(lp), 'cw', s(cw), 'cp', s(cp), 'n', s(v[12] + 1))
  redis.call('ZADD', KEYS[i] .. ':h', s(now + ARGV[2]), record)
  shares[#shares + 1] = table.concat({ARGV[i + 6], v[3], v[2], v[1], s(l.lw), s(l.lp), s(l.cw), s(l.cp)}, '|') .. ';'
  epochs[#epochs + 1] = v[3]
end
redis.call('HSET', record, 'st', 'held', 'row', ARGV[3], 'lim', table.concat(shares), 'fw', 0, 'fp', 0, 'ft', 0)
redis.call('ZADD', holds, s(now + ARGV[1]), record)
return {1, table.concat(epochs, ',')}

-- Keep the holds of one worker and shard alive, and raise what is certain of them so far.
-- KEYS: 1 holds, 2.. records
-- ARGV: 1 ttl ms, then per record: floor whole, floor pico (usd), floor tokens, key prefix of its limits,
--       floors of limits with own rates, as input (the output is 0)
-- Returns: the status of each record (`held`, `settled`, `expired`, ... or false)
local now, reply = now_ms(), {}
for i = 2, #KEYS do
  local record, a = KEYS[i], (i - 2) * 5 + 2
  local r = redis.call('HMGET', record, 'st', 'lim')
  reply[#reply + 1] = r[1]
  if r[1] == 'held' then
    local fw, fp, ft = tonumber(ARGV[a]), tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])
    local shares, raised, rated = {}, false, own_amounts(ARGV[a + 4])
    for id, ep, unit, mode, lw, lp, cw, cp in string.gmatch(r[2], SHARE) do
      local ow, op, nw, np = tonumber(lw), tonumber(lp), fw, fp
      if unit == 'tokens' then nw, np = ft, 0
      elseif rated and rated[id] then nw, np = tonumber(rated[id][1]), tonumber(rated[id][2]) end
      if (unit == 'usd' or unit == 'tokens') and gt(nw, np, ow, op) then
        local key = ARGV[a + 3] .. id
        local _, _, present, _, _, _, _, c, width = read(key)
        if present and counts(present, width, ep) then
          local dw, dp = sub(nw, np, ow, op)
          c[7], c[8] = add(c[7], c[8], dw, dp)
          write(key, c)
          lw, lp, raised = s(nw), s(np), true
        end
      end
      shares[#shares + 1] = table.concat({id, ep, unit, mode, lw, lp, cw, cp}, '|') .. ';'
    end
    redis.call('HSET', record, 'fw', s(fw), 'fp', s(fp), 'ft', s(ft), 'fl', ARGV[a + 4])
    if raised then redis.call('HSET', record, 'lim', table.concat(shares)) end
    redis.call('ZADD', KEYS[1], s(now + ARGV[1]), record)
  end
end
return reply

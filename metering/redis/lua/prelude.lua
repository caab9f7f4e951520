-- Exact arithmetic, put before every script. An amount is (whole, part): whole USD floored and
-- pico 0..10^12-1 for money, (count, 0) for other units; so every Lua number stays below 2^53.
-- KEYS: none. ARGV: none. Returns: nothing (defines locals).
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
local function s(n) return string.format('%.0f', n) end
local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
local function numbers(v, from) for i = from, #v do v[i] = tonumber(v[i]) or 0 end return v end
-- A hold's share of one limit, as kept in the record: id|epoch|unit|mode|likely w|p|ceiling w|p;
local SHARE = '([^|;]+)|(%d+)|(%a+)|(%a+)|(%d+)|(%d+)|(%d+)|(%d+);'
local function state(sw, sp, mw, mp, tw, tp)
  if gt(sw, sp, mw, mp) then return 'overrun' end
  if ge(sw, sp, tw, tp) then return 'exceeded' end
  return 'ok'
end

--- The slopes of linear biases of attention: Press, Smith and Lewis, "Train short, test long" (2022).
local check = require "fp8.ops.check"
local core = require "fp8.core"

-- 2^(-8 i / heads) of head i, for a power of 2.
local function slopes_of(heads)
  local list = {}
  for i = 1, heads do list[i] = 2 ^ (-8 * i / heads) end
  return list
end

--- fp8.alibi_slopes(heads [, {dtype =, device =}]): what each head multiplies the distance of a key with, (heads). With
-- another number of heads than a power of 2 it is that of the next lower one, and for the rest every other one of twice
-- as many, as the authors have it. The bias is a mask of attention:
--
--   local positions = fp8.arange(n, {dtype = "f32"})
--   local distance = positions:view(1, n) - positions:view(n, 1)          -- below 0 for earlier keys
--   local bias = fp8.alibi_slopes(heads):view(heads, 1, 1) * distance
--   local y = fp8.attention(q, k, v, {causal = true, mask = bias})
--
--   fp8.alibi_slopes(3) --> {0.0625, 0.00390625, 0.25}
return function(heads, options)
  check.whole("alibi_slopes", "heads", heads, 1)
  local lower = 1
  while lower * 2 <= heads do lower = lower * 2 end
  local slopes, finer = slopes_of(lower), slopes_of(2 * lower)
  for i = 1, heads - lower do slopes[lower + i] = finer[2 * i - 1] end
  return core.tensor(slopes, options)
end

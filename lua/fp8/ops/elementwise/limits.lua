--- Limits by PyTorch's other names.
local check = require "fp8.ops.check"
local choice = require "fp8.ops.elementwise.choice"
local core = require "fp8.core"
local limited = require "fp8.ops.elementwise.limited"

local limits = {}

-- The clamp of activation functions, which are flat at the limits, as PyTorch has it.
local saturated = limited(core.le, core.ge)

--- x:clip(low, high), x:clamp_min(low), x:clamp_max(high): x:clamp with both limits or one of them; x:relu6() has 0 and
-- 6.
--   fp8.tensor({-5, 0, 5}):clip(-1, 2) --> {-1, 0, 2}
--   fp8.tensor({-5, 5}):clamp_min(0) --> {0, 5}
--   fp8.tensor({-5, 5}):clamp_max(0) --> {-5, 0}
--   fp8.tensor({-5, 5, 50}):relu6() --> {0, 5, 6}
limits.clip = choice.clamp
function limits.clamp_min(x, low) return choice.clamp(x, low, nil) end
function limits.clamp_max(x, high) return choice.clamp(x, nil, high) end
function limits.relu6(x) return saturated(x, 0, 6) end

--- x:hardtanh([low [, high]]): x:clamp, from -1 to 1 if they are left out; the gradient does not pass at the limits.
--   fp8.tensor({-5, 0.5, 5}):hardtanh() --> {-1, 0.5, 1}
function limits.hardtanh(x, low, high)
  return saturated(x, low == nil and -1 or low, high == nil and 1 or high)
end

local largest = {
  f32 = (2 - 2 ^ -23) * 2 ^ 127, f16 = 65504, bf16 = (2 - 2 ^ -7) * 2 ^ 127, e4m3 = 448, e5m2 = 57344,
}

--- x:nan_to_num([nan [, posinf [, neginf]]]): x with 0, or the number given, for NaN, and for infinities the largest
-- and the smallest number of the dtype, or those given. Integers stay as they are.
--   fp8.tensor({0 / 0, 1, math.huge}):nan_to_num(0, 9) --> {0, 1, 9}
function limits.nan_to_num(x, nan, posinf, neginf)
  local limit = largest[core.dtype(check.tensor("nan_to_num", 1, x))]
  if not limit then return choice.masked_fill(x, core.isnan(x), 0) end
  local y = choice.masked_fill(x, core.isnan(x), nan == nil and 0 or nan)
  y = choice.masked_fill(y, core.eq(x, math.huge), posinf == nil and limit or posinf)
  return choice.masked_fill(y, core.eq(x, -math.huge), neginf == nil and -limit or neginf)
end

return limits

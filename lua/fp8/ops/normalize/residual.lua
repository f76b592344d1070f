--- A residual sum with the normalization after it, in one pass: the numbers are those of both, one after the other.
local core = require "fp8.core"
local recorded = require "fp8.ops.normalize.recorded"
local record_sum = require "fp8.ops.elementwise.addition"

local residual = {}

--- x + branch, and its layer normalization.
-- @param x       (…, features), f32, f16 or bf16
-- @param branch  of x's shape and dtype
-- @param weight, bias, epsilon as fp8.layer_norm takes them
-- @return the sum, and its normalization
function residual.layer_norm(x, branch, weight, bias, epsilon)
  local y, mean, inverse, sum = core.layer_norm(x, weight, bias, epsilon, branch)
  record_sum(sum, x, branch)
  return sum, recorded.layer_norm(y, sum, weight, bias, mean, inverse)
end

--- The same with root mean square normalization.
function residual.rms_norm(x, branch, weight, epsilon)
  local y, inverse, sum = core.rms_norm(x, weight, epsilon, branch)
  record_sum(sum, x, branch)
  return sum, recorded.rms_norm(y, sum, weight, inverse)
end

return residual

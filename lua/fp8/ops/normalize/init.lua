--- Normalization of the last dimension.
local core = require "fp8.core"
local recorded = require "fp8.ops.normalize.recorded"

local normalize = {}

--- (x - mean) / √(variance + epsilon) · weight + bias over the last dimension, in float32: Ba et al., "Layer
-- normalization" (2016).
-- @param x       (…, features), f32, f16 or bf16
-- @param weight  (features) of x's dtype or f32, or nil
-- @param bias    likewise
-- @param epsilon added to the variance (of which it is the biased one); 1e-5 if left out
-- @return x's shape and dtype
--   fp8.layer_norm(fp8.tensor({1, 3}), nil, nil, 0) --> {-1, 1}
function normalize.layer_norm(x, weight, bias, epsilon)
  local y, mean, inverse = core.layer_norm(x, weight, bias, epsilon or 1e-5)
  return recorded.layer_norm(y, x, weight, bias, mean, inverse)
end

--- x / √(mean of x² + epsilon) · weight over the last dimension, in float32: Zhang and Sennrich, "Root mean square
-- layer normalization" (2019). Arguments as for layer_norm.
--   fp8.rms_norm(fp8.tensor({1, 7}), nil, 0) --> {0.2, 1.4}
function normalize.rms_norm(x, weight, epsilon)
  local y, inverse = core.rms_norm(x, weight, epsilon or 1e-5)
  return recorded.rms_norm(y, x, weight, inverse)
end

return normalize

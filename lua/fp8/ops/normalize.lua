--- Normalization of the last dimension.
local core = require "fp8.core"
local autograd = require "fp8.autograd"

local needs_grad, record = autograd.needs_grad, autograd.record

local normalize = {}

local function backward(node, grad, x, weight, mean, earlier)
  local inputs, bias = node.inputs, node.inputs[3]
  local gradients = core.normalize_backward {
    dy = grad, x = x, mean = mean or nil, inverse = node.saved[4], weight = weight or nil, addend = earlier,
    want_x = inputs[1] and true, want_weight = inputs[2] and true, bias_dtype = bias and bias.dtype or nil,
  }
  return gradients.x, gradients.weight, gradients.bias
end

local layer_norm = {name = "layer_norm", backward = backward, adds = true}
local rms_norm = {name = "rms_norm", backward = backward, adds = true}

local function finish(operation, y, x, weight, bias, mean, inverse)
  if needs_grad(x, weight, bias) then
    local inputs, saved = {x, weight or false, bias or false}, {x, weight or false, mean or false, inverse}
    record(y, operation, inputs, saved).owned = {inverse, mean}
  else
    core.free(inverse)
    if mean then core.free(mean) end
  end
  return y
end

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
  return finish(layer_norm, y, x, weight, bias, mean, inverse)
end

--- x / √(mean of x² + epsilon) · weight over the last dimension, in float32: Zhang and Sennrich, "Root mean square
-- layer normalization" (2019). Arguments as for layer_norm.
--   fp8.rms_norm(fp8.tensor({1, 7}), nil, 0) --> {0.2, 1.4}
function normalize.rms_norm(x, weight, epsilon)
  local y, inverse = core.rms_norm(x, weight, epsilon or 1e-5)
  return finish(rms_norm, y, x, weight, nil, nil, inverse)
end

return normalize

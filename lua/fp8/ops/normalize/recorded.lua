--- The tape's record of normalizations, for those that compute them.
local core = require "fp8.core"
local autograd = require "fp8.autograd"

local needs_grad, record = autograd.needs_grad, autograd.record

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

local recorded = {}

--- y, which is recorded as the layer normalization of x, with what that needs: `mean` and `inverse` as core.layer_norm
-- gives them.
function recorded.layer_norm(y, x, weight, bias, mean, inverse)
  return finish(layer_norm, y, x, weight, bias, mean, inverse)
end

--- The same of root mean square normalization.
function recorded.rms_norm(y, x, weight, inverse) return finish(rms_norm, y, x, weight, nil, nil, inverse) end

return recorded

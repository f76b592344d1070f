--- Dropout.
local core = require "fp8.core"
local autograd = require "fp8.autograd"

local dropping = {
  name = "dropout",
  backward = function(node, grad) return (core.dropout(grad, node.probability, node.seed, node.offset)) end,
}

--- Zeros each element with a probability and multiplies the others by 1 / (1 - probability), so that the mean stays:
-- Srivastava et al., "Dropout" (2014). The mask is not stored: backward draws it again. A NaN or an infinity stays NaN.
-- @param x           f32, f16 or bf16
-- @param probability in [0, 1); 0.5 if left out; 0 gives x itself
--   fp8.dropout(fp8.ones(100), 0.5):max():item() --> 2
return function(x, probability)
  if probability == nil then probability = 0.5 end
  if probability == 0 and core.is_tensor(x) then return x end
  local y, seed, offset = core.dropout(x, probability)
  if autograd.needs_grad(x) then
    local node = autograd.record(y, dropping, {x})
    node.probability, node.seed, node.offset = probability, seed, offset
  end
  return y
end

--- Activation functions, element by element. Integers become f32, but not in relu.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local differentiable = require "fp8.ops.elementwise.differentiable"

local needs_grad, record = autograd.needs_grad, autograd.record
local gt, mul, where = core.gt, core.mul, core.where

local activation = {}

--- max(x, 0); its derivative at 0 is taken to be 0.
--   fp8.tensor({-1, 2}):relu() --> {0, 2}
activation.relu = differentiable("relu", "input")

--- x · σ(x), with σ the sigmoid: SiLU, also called swish.
--   fp8.tensor({0, 2}):silu() --> {0, 1.7615942}
activation.silu = differentiable("silu", "input")

local gelu, gelu_tanh = differentiable("gelu", "input"), differentiable("gelu_tanh", "input")

--- x · Φ(x) with Φ the normal distribution function: by the error function or, with "tanh" for `approximate`, by
-- x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³))), as GPT-2 has it.
--   fp8.tensor({0, 2}):gelu() --> {0, 1.9544997}
--   fp8.tensor({0, 2}):gelu "tanh" --> {0, 1.9545977}
-- @param approximate "none" (the default) or "tanh"
function activation.gelu(x, approximate)
  if approximate == nil or approximate == "none" then return gelu(x) end
  if approximate == "tanh" then return gelu_tanh(x) end
  core.raise("gelu: approximate must be none or tanh, got " .. tostring(approximate))
end

-- One with a parameter, a number: core[name](x, parameter). `parameter_name` is for errors.
local function with_parameter(name, parameter_name, default, backward)
  local compute, operation = core[name], {name = name, backward = backward}
  return function(x, parameter)
    if parameter == nil then parameter = default end
    if type(parameter) ~= "number" then
      core.raise(("%s: %s must be a number, got %s"):format(name, parameter_name, type(parameter)))
    end
    local y = compute(x, parameter)
    if needs_grad(x) then record(y, operation, {x}, {x}).parameter = parameter end
    return y
  end
end

--- x:leaky_relu(negative_slope): x where it is above 0, else negative_slope (0.01 if left out) times x.
--   fp8.tensor({-2, 3}):leaky_relu(0.1) --> {-0.2, 3}
activation.leaky_relu = with_parameter("leaky_relu", "negative_slope", 0.01, function(node, grad, x)
  return where(gt(x, 0), grad, mul(grad, node.parameter))
end)

--- x:elu(alpha): x where it is above 0, else alpha (1 if left out) times e^x - 1.
--   fp8.tensor({-1, 3}):elu() --> {-0.6321206, 3}
activation.elu = with_parameter("elu", "alpha", 1, function(node, grad, x)
  return where(gt(x, 0), grad, mul(mul(grad, node.parameter), core.exp(x)))
end)

--- x:softplus(beta): ln(1 + e^(beta · x)) / beta, with 1 for beta if it is left out. It overflows for no x: PyTorch's
-- threshold is not needed.
--   fp8.tensor({0, 1000}):softplus() --> {0.6931472, 1000}
activation.softplus = with_parameter("softplus", "beta", 1, function(node, grad, x)
  return mul(grad, core.sigmoid(mul(x, node.parameter)))
end)

return activation

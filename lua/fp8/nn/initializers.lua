--- fp8.nn.init: PyTorch's initializers. Each fills a tensor of f32, f16 or bf16 in place, a parameter too, and returns
-- it; numbers are those of fp8.manual_seed, drawn in f32 and rounded once. For sizes (out, in, …) the fan in is `in`
-- times the product of the sizes after it, the fan out is `out` times that.
--   fp8.nn.init.ones_(fp8.empty(2)) --> {1, 1}
local autograd = require "fp8.autograd"
local check = require "fp8.ops.check"
local computable = require "fp8.computable"
local core = require "fp8.core"
local create = require "fp8.ops.create"
local random = require "fp8.ops.random"
local shape_text = require("fp8.shapes").text

local raise = core.raise

local init = {}

local function check_tensor(name, x)
  check.tensor(name, 1, x)
  if not computable[core.dtype(x)] then
    raise(("%s: the tensor must be f32, f16 or bf16, got %s"):format(name, core.dtype(x)))
  end
end

local function number(name, parameter, value, default)
  if value == nil then value = default end
  if type(value) ~= "number" or value ~= value then
    raise(("%s: %s must be a number, got %s"):format(name, parameter, tostring(value)))
  end
  return value
end

--- init.uniform_(x [, low = 0 [, high = 1]]): uniform in [low, high).
--   fp8.nn.init.uniform_(fp8.empty(100), -1, 0):max():item() <= 0 --> true
function init.uniform_(x, low, high)
  check_tensor("uniform_", x)
  return autograd.no_grad(random.uniform_, x, low, high)
end

--- init.normal_(x [, mean = 0 [, std = 1]])
--   fp8.nn.init.normal_(fp8.empty(3), 5, 0) --> {5, 5, 5}
function init.normal_(x, mean, std)
  check_tensor("normal_", x)
  return autograd.no_grad(random.normal_, x, mean, std)
end

local function fill(name, x, value)
  check_tensor(name, x)
  core.fill_(x, value)
  return x
end

--- init.constant_(x, value), init.zeros_(x), init.ones_(x)
--   fp8.nn.init.constant_(fp8.empty(2), 3) --> {3, 3}
--   fp8.nn.init.zeros_(fp8.empty(2)) --> {0, 0}
--   fp8.nn.init.ones_(fp8.empty(2)) --> {1, 1}
function init.constant_(x, value) return fill("constant_", x, number("constant_", "the value", value)) end
function init.zeros_(x) return fill("zeros_", x, 0) end
function init.ones_(x) return fill("ones_", x, 1) end

--- init.eye_(x): ones on the diagonal of a matrix, and zeros.
--   fp8.nn.init.eye_(fp8.empty(2, 2)) --> {{1, 0}, {0, 1}}
function init.eye_(x)
  check_tensor("eye_", x)
  check.tensor("eye_", 1, x, 2)
  core.copy_(x, create.eye(core.size(x, 1), core.size(x, 2), {device = core.device(x)}))
  return x
end

local gains = {
  linear = 1, conv1d = 1, conv2d = 1, conv3d = 1, conv_transpose1d = 1, conv_transpose2d = 1,
  conv_transpose3d = 1, sigmoid = 1, tanh = 5 / 3, relu = math.sqrt(2), selu = 3 / 4,
}

--- init.calculate_gain(nonlinearity [, slope]): the factor of the standard deviation that keeps the size of activations
-- through a function: "linear", "conv1d" and its kind, "sigmoid", "tanh", "relu", "selu", or "leaky_relu", which alone
-- has a negative slope (0.01 if left out).
--   fp8.nn.init.calculate_gain "tanh" --> 5 / 3
function init.calculate_gain(nonlinearity, slope)
  if nonlinearity == "leaky_relu" then
    return math.sqrt(2 / (1 + number("calculate_gain", "the slope", slope, 0.01) ^ 2))
  end
  local gain = gains[nonlinearity]
  if not gain then
    raise(("calculate_gain: the nonlinearity must be linear, sigmoid, tanh, relu, leaky_relu or selu, got %s"):format(
      tostring(nonlinearity)))
  end
  if slope ~= nil then raise(("calculate_gain: %s has no slope, got %s"):format(nonlinearity, tostring(slope))) end
  return gain
end

local function fans(name, x)
  check_tensor(name, x)
  local shape = core.shape(x)
  if #shape < 2 then
    raise(("%s: a tensor of at least 2 dimensions is needed, got shape %s"):format(name, shape_text(shape)))
  end
  local field = 1
  for i = 3, #shape do field = field * shape[i] end
  return shape[2] * field, shape[1] * field
end

-- Uniform or normal numbers of mean 0 and this standard deviation. One of no elements stays as it is.
local function spread(x, uniform, std)
  if core.numel(x) == 0 then return x end
  if uniform then
    local bound = math.sqrt(3) * std
    return autograd.no_grad(random.uniform_, x, -bound, bound)
  end
  return autograd.no_grad(random.normal_, x, 0, std)
end

local function xavier(name, uniform)
  return function(x, gain)
    local fan_in, fan_out = fans(name, x)
    gain = number(name, "the gain", gain, 1)
    if not (gain >= 0 and gain < math.huge) then
      raise(("%s: the gain must be a finite number of at least 0, got %s"):format(name, tostring(gain)))
    end
    return spread(x, uniform, gain * math.sqrt(2 / (fan_in + fan_out)))
  end
end

--- init.xavier_uniform_(x [, gain = 1]) and init.xavier_normal_(x [, gain = 1]): of the standard deviation
-- gain · √(2 / (fan in + fan out)). Glorot and Bengio, "Understanding the difficulty of training deep feedforward
-- neural networks" (2010).
--   fp8.nn.init.xavier_uniform_(fp8.empty(30, 20)):abs():max():item() <= math.sqrt(6 / 50) --> true
--   fp8.nn.init.xavier_normal_(fp8.empty(3, 2), 0):abs():sum():item() --> 0
init.xavier_uniform_ = xavier("xavier_uniform_", true)
init.xavier_normal_ = xavier("xavier_normal_", false)

local function kaiming(name, uniform)
  return function(x, slope, mode, nonlinearity)
    local fan_in, fan_out = fans(name, x)
    if mode ~= nil and mode ~= "fan_in" and mode ~= "fan_out" then
      raise(("%s: the mode must be fan_in or fan_out, got %s"):format(name, tostring(mode)))
    end
    if nonlinearity == nil then nonlinearity = "leaky_relu" end
    slope = number(name, "the slope", slope, 0)
    if slope == 0 and nonlinearity ~= "leaky_relu" then slope = nil end -- the default, which comes before others
    local gain = init.calculate_gain(nonlinearity, slope)
    return spread(x, uniform, gain / math.sqrt(mode == "fan_out" and fan_out or fan_in))
  end
end

--- init.kaiming_uniform_(x [, slope = 0 [, mode = "fan_in" [, nonlinearity = "leaky_relu"]]]), and kaiming_normal_: of
-- the standard deviation gain / √fan, with the gain of calculate_gain(nonlinearity, slope) and the fan in or, with
-- "fan_out", the fan out. He et al., "Delving deep into rectifiers" (2015).
--   fp8.nn.init.kaiming_uniform_(fp8.empty(30, 20)):abs():max():item() <= math.sqrt(6 / 20) --> true
--   fp8.nn.init.kaiming_normal_(fp8.empty(3, 2), 0, "fan_out", "relu").shape --> {3, 2}
init.kaiming_uniform_ = kaiming("kaiming_uniform_", true)
init.kaiming_normal_ = kaiming("kaiming_normal_", false)

local function polynomial(w, coefficients)
  local y = core.full(core.shape(w), coefficients[1], {dtype = "f32", device = core.device(w)})
  for i = 2, #coefficients do
    core.mul_(y, w)
    core.add_(y, coefficients[i])
  end
  return y
end

local central = {
  2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503, -0.00417768164,
  0.246640727, 1.50140941,
}
local outer = {
  -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047,
  1.00167406, 2.83297682,
}

-- The inverse of the error function, of f32: Giles, "Approximating the erfinv function" (2010), single precision.
local function inverse_erf(x)
  local w = core.neg(core.log(core.mul(core.sub(1, x), core.add(x, 1))))
  local near = polynomial(core.sub(w, 2.5), central)
  local far = polynomial(core.sub(core.sqrt(w), 3), outer)
  return core.mul(core.where(core.lt(w, 5), near, far), x)
end

-- erf(z), by the Chebyshev fit of erfc in Press et al., "Numerical recipes": its error of 1.2e-7 is one of f32, which
-- the numbers that it bounds are drawn in.
local function erf(z)
  local t = 1 / (1 + math.abs(z) / 2)
  local rest = t * math.exp(-z * z - 1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418 +
    t * (-0.18628806 + t * (0.27886807 + t * (-1.13520398 + t * (1.48851587 + t * (-0.82215223 +
    t * 0.17087277)))))))))
  return z >= 0 and 1 - rest or rest - 1
end

--- init.trunc_normal_(x [, mean = 0 [, std = 1 [, low = -2 [, high = 2]]]]): the normal distribution in [low, high], by
-- the inverse of its distribution function, of uniform numbers. The bounds are those of the numbers, whatever mean
-- and std are. As in PyTorch, bounds more than some 5 deviations away on one side of the mean leave nothing but the
-- nearer one.
--   fp8.nn.init.trunc_normal_(fp8.empty(1000), 0, 1, -1, 1):abs():max():item() <= 1 --> true
function init.trunc_normal_(x, mean, std, low, high)
  local name = "trunc_normal_"
  check_tensor(name, x)
  mean, std = number(name, "the mean", mean, 0), number(name, "the standard deviation", std, 1)
  low, high = number(name, "the lower bound", low, -2), number(name, "the upper bound", high, 2)
  if not (std > 0 and std < math.huge) or mean - mean ~= 0 then
    raise(("%s: a finite mean and standard deviation above 0 are needed, got %s and %s"):format(name, mean,
      std))
  end
  if not (low < high) then
    raise(("%s: the lower bound must be below the upper one, got %s and %s"):format(name, low, high))
  end
  local first = erf((low - mean) / std / math.sqrt(2))
  local last = erf((high - mean) / std / math.sqrt(2))
  local numbers = core.rand(core.shape(x), {dtype = "f32", device = core.device(x)})
  core.mul_(numbers, last - first)
  core.add_(numbers, first)
  numbers = core.mul(inverse_erf(core.clamp(numbers, -1 + 2 ^ -24, 1 - 2 ^ -24)), std * math.sqrt(2))
  core.copy_(x, core.clamp(core.add(numbers, mean), low, high))
  return x
end

return init

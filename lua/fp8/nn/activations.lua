--- Activation functions as modules.
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local elementwise = require "fp8.ops.elementwise"
local check_one = require("fp8.nn.arguments").check_one
local is_whole = require "fp8.is_whole"
local Module = require "fp8.nn.module"
local softmax = require "fp8.ops.softmax"

local ReLU = Module:extend("ReLU")

--- max(x, 0)
--   fp8.nn.ReLU()(fp8.tensor {-1, 2}) --> {0, 2}
function ReLU:forward(x, ...)
  check_one(self, "one tensor", ...)
  return elementwise.relu(x)
end

local GELU = Module:extend("GELU")

--- fp8.nn.GELU() or fp8.nn.GELU{approximate = "tanh"}: both forms of fp8.gelu.
--   fp8.nn.GELU {approximate = "tanh"} (fp8.tensor {0}) --> {0}
function GELU:init(options)
  self.approximate = check_options("GELU", options, {approximate = true}).approximate or "none"
  if self.approximate ~= "none" and self.approximate ~= "tanh" then
    core.raise("GELU: option approximate must be none or tanh, got " .. tostring(self.approximate))
  end
end

function GELU:forward(x, ...)
  check_one(self, "one tensor", ...)
  return elementwise.gelu(x, self.approximate)
end

function GELU:description() return self.approximate == "tanh" and 'approximate = "tanh"' or "" end

local SiLU = Module:extend("SiLU")

--- x · σ(x)
--   fp8.nn.SiLU()(fp8.tensor {0}) --> {0}
function SiLU:forward(x, ...)
  check_one(self, "one tensor", ...)
  return elementwise.silu(x)
end

local Tanh = Module:extend("Tanh")

--- The hyperbolic tangent.
--   fp8.nn.Tanh()(fp8.tensor {0}) --> {0}
function Tanh:forward(x, ...)
  check_one(self, "one tensor", ...)
  return elementwise.tanh(x)
end

local Sigmoid = Module:extend("Sigmoid")

--- 1 / (1 + e^-x)
--   fp8.nn.Sigmoid()(fp8.tensor {0}) --> {0.5}
function Sigmoid:forward(x, ...)
  check_one(self, "one tensor", ...)
  return elementwise.sigmoid(x)
end

-- A class with a dimension along which it computes.
local function along_dimension(class_name, compute)
  local class = Module:extend(class_name)

  function class:init(dimension)
    if type(dimension) ~= "number" or dimension == 0 or not is_whole(math.abs(dimension), 1) then
      core.raise(("%s: the dimension must be a whole number, from 1 or from -1 at the end, got %s"):format(class_name,
        tostring(dimension)))
    end
    self.dimension = dimension
  end

  function class:forward(x, ...)
    check_one(self, "one tensor", ...)
    return compute(x, self.dimension)
  end

  function class:description() return ("%d"):format(self.dimension) end

  return class
end

-- A class that applies x:name(), with one argument, a number that has this name and default, if they are given.
local function elementwise_module(class_name, name, argument, default)
  local class, apply = Module:extend(class_name), elementwise[name]

  function class:init(value, ...)
    if value ~= nil and not argument or select("#", ...) > 0 then
      core.raise(("%s: %s"):format(class_name, argument and "one argument, " .. argument or "no arguments"))
    end
    if value ~= nil and type(value) ~= "number" then
      core.raise(("%s: %s must be a number, got %s"):format(class_name, argument, type(value)))
    end
    if argument then self[argument] = value == nil and default or value end
  end

  function class:forward(x, ...)
    check_one(self, "one tensor", ...)
    return apply(x, argument and self[argument])
  end

  function class:description() return argument and ("%s = %.14g"):format(argument, self[argument]) or "" end

  return class
end

local PReLU = Module:extend("PReLU")

--- fp8.nn.PReLU([count [, value]]): fp8.prelu with a weight for each of `count` channels (1 if left out) that is
-- learned, `value` at first (0.25).
--   fp8.nn.PReLU()(fp8.tensor {-4, 2}) --> {-1, 2}
function PReLU:init(count, value)
  if count == nil then count = 1 end
  if value == nil then value = 0.25 end
  if not is_whole(count, 1) then
    core.raise("PReLU: the number of weights must be a whole number of at least 1, got " .. tostring(count))
  end
  if type(value) ~= "number" then core.raise("PReLU: the first value must be a number, got " .. type(value)) end
  self.weight = core.full({count}, value, {requires_grad = true})
end

function PReLU:forward(x, ...)
  check_one(self, "one tensor", ...)
  return elementwise.prelu(x, self.weight)
end

function PReLU:description() return ("%d"):format(self.weight:numel()) end

return {
  --- Activations as modules, which apply the function of that name: fp8.nn.LeakyReLU([negative_slope]),
  -- fp8.nn.ELU([alpha]), fp8.nn.CELU([alpha]), fp8.nn.Softplus([beta]), fp8.nn.SELU(), fp8.nn.ReLU6(), fp8.nn.Mish(),
  -- fp8.nn.Softsign(), fp8.nn.LogSigmoid(), fp8.nn.Hardswish(), fp8.nn.Hardsigmoid().
  --   fp8.nn.LeakyReLU(0.5)(fp8.tensor {-2, 3}) --> {-1, 3}
  --   fp8.nn.ELU(2)(fp8.tensor {0, 3}) --> {0, 3}
  --   fp8.nn.CELU(2)(fp8.tensor {0, 3}) --> {0, 3}
  --   fp8.nn.Softplus()(fp8.tensor {0}) --> {0.6931472}
  --   fp8.nn.SELU()(fp8.tensor {0}) --> {0}
  --   fp8.nn.ReLU6()(fp8.tensor {-2, 9}) --> {0, 6}
  --   fp8.nn.Mish()(fp8.tensor {0}) --> {0}
  --   fp8.nn.Softsign()(fp8.tensor {-1, 3}) --> {-0.5, 0.75}
  --   fp8.nn.LogSigmoid()(fp8.tensor {0}) --> {-0.6931472}
  --   fp8.nn.Hardswish()(fp8.tensor {-4, 6}) --> {0, 6}
  --   fp8.nn.Hardsigmoid()(fp8.tensor {0, 6}) --> {0.5, 1}
  LeakyReLU = elementwise_module("LeakyReLU", "leaky_relu", "negative_slope", 0.01),
  ELU = elementwise_module("ELU", "elu", "alpha", 1),
  CELU = elementwise_module("CELU", "celu", "alpha", 1),
  Softplus = elementwise_module("Softplus", "softplus", "beta", 1),
  SELU = elementwise_module("SELU", "selu"),
  ReLU6 = elementwise_module("ReLU6", "relu6"),
  Mish = elementwise_module("Mish", "mish"),
  Softsign = elementwise_module("Softsign", "softsign"),
  LogSigmoid = elementwise_module("LogSigmoid", "logsigmoid"),
  Hardswish = elementwise_module("Hardswish", "hardswish"),
  Hardsigmoid = elementwise_module("Hardsigmoid", "hardsigmoid"),
  PReLU = PReLU,
  ReLU = ReLU, GELU = GELU, SiLU = SiLU, Tanh = Tanh, Sigmoid = Sigmoid,
  --- fp8.nn.Softmax(dimension) and fp8.nn.LogSoftmax(dimension): x:softmax and x:log_softmax.
  --   fp8.nn.Softmax(-1)(fp8.zeros(1, 2)) --> {{0.5, 0.5}}
  --   fp8.nn.LogSoftmax(1)(fp8.zeros(2, 1)):exp() --> {{0.5}, {0.5}}
  Softmax = along_dimension("Softmax", softmax.softmax),
  LogSoftmax = along_dimension("LogSoftmax", softmax.log_softmax),
}

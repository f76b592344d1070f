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

return {
  ReLU = ReLU, GELU = GELU, SiLU = SiLU, Tanh = Tanh, Sigmoid = Sigmoid,
  --- fp8.nn.Softmax(dimension) and fp8.nn.LogSoftmax(dimension): x:softmax and x:log_softmax.
  --   fp8.nn.Softmax(-1)(fp8.zeros(1, 2)) --> {{0.5, 0.5}}
  --   fp8.nn.LogSoftmax(1)(fp8.zeros(2, 1)):exp() --> {{0.5}, {0.5}}
  Softmax = along_dimension("Softmax", softmax.softmax),
  LogSoftmax = along_dimension("LogSoftmax", softmax.log_softmax),
}

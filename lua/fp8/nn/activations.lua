--- Activation functions as modules.
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local elementwise = require "fp8.ops.elementwise"
local check_one = require("fp8.nn.arguments").check_one
local Module = require "fp8.nn.module"

local ReLU = Module:extend("ReLU")

--- max(x, 0)
function ReLU:forward(x, ...)
  check_one(self, "one tensor", ...)
  return elementwise.relu(x)
end

local GELU = Module:extend("GELU")

--- fp8.nn.GELU() or fp8.nn.GELU{approximate = "tanh"}: both forms of fp8.gelu.
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
function SiLU:forward(x, ...)
  check_one(self, "one tensor", ...)
  return elementwise.silu(x)
end

return {ReLU = ReLU, GELU = GELU, SiLU = SiLU}

--- Two linear layers with an activation between them.
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local activations = require "fp8.nn.activations"
local arguments = require "fp8.nn.arguments"
local fused = require "fp8.nn.fused"
local Dropout = require "fp8.nn.dropout"
local Linear = require("fp8.nn.linear").Linear
local Module = require "fp8.nn.module"

local makers = {
  gelu = activations.GELU,
  gelu_tanh = function() return activations.GELU {approximate = "tanh"} end,
  silu = activations.SiLU,
  relu = activations.ReLU,
}

local known_options = {activation = "string", bias = "boolean", dropout = "number", dtype = "dtype", device = "device"}

local MLP = Module:extend("MLP")

--- fp8.nn.MLP(features, hidden [, options]): fc2(dropout(activation(fc1(x)))).
-- @param options {activation = "gelu" (or "gelu_tanh", "silu", "relu"), bias = true, dropout = 0, dtype =, device =}
function MLP:init(features, hidden, options)
  local name = self.class_name
  arguments.check_size(name, "features", features)
  arguments.check_size(name, "hidden", hidden)
  options = check_options(name, options, known_options)
  local activation, dropout = options.activation or "gelu", options.dropout or 0
  arguments.check_probability(name, "option dropout", dropout)
  if not makers[activation] then
    core.raise(("%s: option activation must be gelu, gelu_tanh, silu or relu, got %s"):format(name, activation))
  end
  local settings = {bias = options.bias ~= false, dtype = options.dtype, device = options.device}
  self.fc1 = Linear(features, hidden, settings)
  self.activation = makers[activation]()
  if dropout > 0 then self.dropout = Dropout(dropout) end
  self.fc2 = Linear(hidden, features, settings)
end

--- x (…, features) to the same shape.
function MLP:forward(x, ...)
  arguments.check_one(self, "an input (…, features)", ...)
  local y = not self.dropout and fused.pair(self.fc1, self.activation, self.fc2, x)
  if y then return y end
  local hidden = self.activation(self.fc1(x))
  if self.dropout then hidden = self.dropout(hidden) end
  return self.fc2(hidden)
end

return MLP

--- An MLP whose hidden features have a gate: Shazeer, "GLU variants improve transformer" (2020).
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local activations = require "fp8.nn.activations"
local arguments = require "fp8.nn.arguments"
local multiply = require("fp8.ops.elementwise").mul
local Dropout = require "fp8.nn.dropout"
local Linear = require("fp8.nn.linear").Linear
local Module = require "fp8.nn.module"

local makers = {
  silu = activations.SiLU,
  gelu = activations.GELU,
  gelu_tanh = function() return activations.GELU {approximate = "tanh"} end,
  relu = activations.ReLU,
  sigmoid = activations.Sigmoid,
}

local known_options = {activation = "string", bias = "boolean", dropout = "number", dtype = "dtype", device = "device"}

local GatedMLP = Module:extend("GatedMLP")

--- fp8.nn.GatedMLP(features, hidden [, options]): down_proj(dropout(activation(gate_proj(x)) · up_proj(x))), of three
-- linear layers without bias under the names that they have in Llama. With "silu" it is SwiGLU, with "gelu" GEGLU, with
-- "relu" ReGLU, and with "sigmoid" the gated linear unit.
-- @param options {activation = "silu" (or "gelu", "gelu_tanh", "relu", "sigmoid"), bias = false, dropout = 0, dtype =,
--   device =}
function GatedMLP:init(features, hidden, options)
  local name = self.class_name
  arguments.check_size(name, "features", features)
  arguments.check_size(name, "hidden", hidden)
  options = check_options(name, options, known_options)
  local activation, dropout = options.activation or "silu", options.dropout or 0
  arguments.check_probability(name, "option dropout", dropout)
  if not makers[activation] then
    core.raise(("%s: option activation must be silu, gelu, gelu_tanh, relu or sigmoid, got %s"):format(name,
      activation))
  end
  local settings = {bias = options.bias == true, dtype = options.dtype, device = options.device}
  self.gate_proj = Linear(features, hidden, settings)
  self.up_proj = Linear(features, hidden, settings)
  self.activation = makers[activation]()
  if dropout > 0 then self.dropout = Dropout(dropout) end
  self.down_proj = Linear(hidden, features, settings)
end

--- x (…, features) to the same shape.
function GatedMLP:forward(x, ...)
  arguments.check_one(self, "an input (…, features)", ...)
  local hidden = multiply(self.activation(self.gate_proj(x)), self.up_proj(x))
  if self.dropout then hidden = self.dropout(hidden) end
  return self.down_proj(hidden)
end

return GatedMLP

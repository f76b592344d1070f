--- An MLP whose hidden features have a gate: Shazeer, "GLU variants improve transformer" (2020).
local arguments = require "fp8.nn.arguments"
local hidden_options = require "fp8.nn.hidden_options"
local multiply = require("fp8.ops.elementwise").mul
local Linear = require("fp8.nn.linear").Linear
local Module = require "fp8.nn.module"

local choices = {"silu", "gelu", "gelu_tanh", "relu", "sigmoid"}

local GatedMLP = Module:extend("GatedMLP")

--- fp8.nn.GatedMLP(features, hidden [, options]): down_proj(dropout(activation(gate_proj(x)) · up_proj(x))), of three
-- linear layers without bias under the names that they have in Llama. With "silu" it is SwiGLU, with "gelu" GEGLU, with
-- "relu" ReGLU, and with "sigmoid" the gated linear unit.
--
-- smooth = true is Smooth-SwiGLU of Fishman et al., "Scaling FP8 training to trillion-token LLMs" (2024): where a
-- recipe quantizes what down_proj takes, each of its features is divided by a power of two, that of its absmax or the
-- next, and multiplied with it again once it has been quantized: outliers that the gate makes cost other features no
-- precision. It is the field `smooth` of recipes (fp8.recipes), which whatever recipe the layer computes by gets;
-- operands with a Hadamard transform or a history stay as they are. Without a recipe nothing changes. (There the
-- factors are the absmaxima themselves, not powers of two, and codes are multiplied, with the factors in the weights.)
-- @param options {activation = "silu" (or "gelu", "gelu_tanh", "relu", "sigmoid"), smooth = false, bias = false,
--   dropout = 0, dtype =, device =}
--   fp8.nn.GatedMLP(8, 16, {activation = "gelu"})(fp8.randn(2, 8)).shape --> {2, 8}
function GatedMLP:init(features, hidden, options)
  local activation, dropout, settings =
    hidden_options(self.class_name, features, hidden, options, choices, false, {smooth = "boolean"})
  self.gate_proj = Linear(features, hidden, settings)
  self.activation = activation
  self.up_proj = Linear(features, hidden, settings)
  self.dropout = dropout
  self.down_proj = Linear(hidden, features, settings)
  self.down_proj.smooths_input = options and options.smooth or nil
end

--- x (…, features) to the same shape.
function GatedMLP:forward(x, ...)
  arguments.check_one(self, "an input (…, features)", ...)
  local hidden = multiply(self.activation(self.gate_proj(x)), self.up_proj(x))
  if self.dropout then hidden = self.dropout(hidden) end
  return self.down_proj(hidden)
end

return GatedMLP

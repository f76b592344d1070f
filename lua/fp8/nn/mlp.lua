--- Two linear layers with an activation between them.
local arguments = require "fp8.nn.arguments"
local fused = require "fp8.nn.fused"
local hidden_options = require "fp8.nn.hidden_options"
local Linear = require("fp8.nn.linear").Linear
local Module = require "fp8.nn.module"

local choices = {"gelu", "gelu_tanh", "silu", "relu"}

local MLP = Module:extend("MLP")

--- fp8.nn.MLP(features, hidden [, options]): fc2(dropout(activation(fc1(x)))).
-- @param options {activation = "gelu" (or "gelu_tanh", "silu", "relu"), bias = true, dropout = 0, dtype =, device =}
--   fp8.nn.MLP(8, 32, {activation = "relu"})(fp8.randn(2, 8)).shape --> {2, 8}
function MLP:init(features, hidden, options)
  local activation, dropout, settings = hidden_options(self.class_name, features, hidden, options, choices, true)
  self.fc1 = Linear(features, hidden, settings)
  self.activation = activation
  self.dropout = dropout
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

--- Modules one after the other that are computed as one, where that gives the same numbers.
local activations = require "fp8.nn.activations"
local calls = require "fp8.nn.calls"
local Linear = require("fp8.nn.linear").Linear
local pair = require "fp8.linear.pair"

local fused = {}

-- The name of the function that a module computes, as core has it; nil for other modules.
local function activation_name(module)
  local class = getmetatable(module)
  if class == activations.GELU then return module.approximate == "tanh" and "gelu_tanh" or "gelu" end
  return class == activations.SiLU and "silu" or class == activations.ReLU and "relu" or nil
end

local function is_plain_linear(module)
  return type(module) == "table" and module.forward == Linear.forward
end

--- second(activation(first(x))) if these are linear layers with an activation function between them that make a pair
-- (linear/pair.lua); else nil, and nothing is done. What watches the calls of modules sees each of them.
function fused.pair(first, activation, second, x)
  if calls.observer or not is_plain_linear(second) or not second.plan or not is_plain_linear(first) then return nil end
  local name = type(activation) == "table" and activation_name(activation)
  if not name or not pair.suits(first, second) then return nil end
  return pair.apply(x, first, name, second)
end

return fused

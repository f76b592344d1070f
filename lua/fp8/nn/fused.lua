--- Modules one after the other that are computed as one, where that gives the same numbers.
local activations = require "fp8.nn.activations"
local calls = require "fp8.nn.calls"
local Linear = require("fp8.nn.linear").Linear
local pair = require "fp8.linear.pair"

local fused = {}

-- What modules of the library compute, by their forward: one of a script's own, or with another forward, is called.
local plain_linear, gelu = Linear.forward, activations.GELU.forward
local names = {[activations.ReLU.forward] = "relu", [activations.SiLU.forward] = "silu"}
local gelu_names = {none = "gelu", tanh = "gelu_tanh"}

-- The name of the function that a module computes, as core has it; nil for other modules.
local function activation_name(module)
  local forward = module.forward
  if forward == gelu then return gelu_names[module.approximate] end
  return names[forward]
end

local function is_plain_linear(module)
  return type(module) == "table" and module.forward == plain_linear
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

--- Modules one after the other that are computed as one, where that gives the same numbers.
local activations = require "fp8.nn.activations"
local calls = require "fp8.nn.calls"
local core = require "fp8.core"
local fuses = require "fp8.linear.fuses"
local Linear = require("fp8.nn.linear").Linear
local normalization = require "fp8.nn.normalization"
local pair = require "fp8.linear.pair"
local residual = require "fp8.ops.normalize.residual"

local fused = {}

-- What modules of the library compute, by their forward: one of a script's own, or with another forward, is called.
local plain_linear, gelu = Linear.forward, activations.GELU.forward
local layer_norm, rms_norm = normalization.LayerNorm.forward, normalization.RMSNorm.forward
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

--- x + branch, and what a norm of the library makes of that; nil for other modules, and nothing is done.
function fused.sum_and_norm(norm, x, branch)
  if calls.observer or not fuses() or not core.is_tensor(branch) or not core.like(x, branch) then return nil end
  local forward = norm.forward
  if forward == layer_norm then
    return residual.layer_norm(x, branch, norm.weight, norm.bias, norm.epsilon)
  elseif forward == rms_norm then
    return residual.rms_norm(x, branch, norm.weight, norm.epsilon)
  end
  return nil
end

return fused

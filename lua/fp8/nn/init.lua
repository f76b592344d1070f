--- fp8.nn: modules.
local activations = require "fp8.nn.activations"
local linear = require "fp8.nn.linear"

return {
  Module = require "fp8.nn.module",
  Sequential = require "fp8.nn.sequential",
  Linear = linear.Linear,
  LinearMixed = linear.LinearMixed,
  LinearGlobal = linear.LinearGlobal,
  ReLU = activations.ReLU,
  GELU = activations.GELU,
}

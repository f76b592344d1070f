--- Normalization of the last dimension, as modules.
local check_options = require "fp8.check_options"
local arguments = require "fp8.nn.arguments"
local epsilon_of = require("fp8.nn.normalization.arguments").epsilon
local normalize = require "fp8.ops.normalize"
local Module = require "fp8.nn.module"

local layer_norm_options = {epsilon = "number", bias = "boolean", dtype = "dtype", device = "device"}
local rms_norm_options = {epsilon = "number", dtype = "dtype", device = "device"}

local LayerNorm = Module:extend("LayerNorm")

--- fp8.nn.LayerNorm(features [, {epsilon = 1e-5, bias = true, dtype =, device =}]): fp8.layer_norm with a weight of
-- ones and a bias of zeros to start from.
--   fp8.nn.LayerNorm(2, {epsilon = 0})(fp8.tensor {{1, 3}}) --> {{-1, 1}}
function LayerNorm:init(features, options)
  arguments.check_size(self.class_name, "features", features)
  options = check_options(self.class_name, options, layer_norm_options)
  self.features, self.epsilon = features, epsilon_of(self.class_name, options)
  self.weight = arguments.constant({features}, 1, options)
  if options.bias ~= false then self.bias = arguments.constant({features}, 0, options) end
end

--- x (…, features) to the same shape.
function LayerNorm:forward(x, ...)
  arguments.check_one(self, "an input (…, features)", ...)
  return normalize.layer_norm(x, self.weight, self.bias, self.epsilon)
end

function LayerNorm:description()
  return ("%d, epsilon = %g%s"):format(self.features, self.epsilon, self.bias and "" or ", bias = false")
end

local RMSNorm = Module:extend("RMSNorm")

--- fp8.nn.RMSNorm(features [, {epsilon = 1e-5, dtype =, device =}]): fp8.rms_norm with a weight of ones to start from.
-- (PyTorch's epsilon is that of the dtype if none is given.)
--   fp8.nn.RMSNorm(2, {epsilon = 0})(fp8.tensor {{3, 3}}) --> {{1, 1}}
function RMSNorm:init(features, options)
  arguments.check_size(self.class_name, "features", features)
  options = check_options(self.class_name, options, rms_norm_options)
  self.features, self.epsilon = features, epsilon_of(self.class_name, options)
  self.weight = arguments.constant({features}, 1, options)
end

--- x (…, features) to the same shape.
function RMSNorm:forward(x, ...)
  arguments.check_one(self, "an input (…, features)", ...)
  return normalize.rms_norm(x, self.weight, self.epsilon)
end

function RMSNorm:description() return ("%d, epsilon = %g"):format(self.features, self.epsilon) end

return {LayerNorm = LayerNorm, RMSNorm = RMSNorm}

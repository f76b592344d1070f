--- A learned factor for every feature.
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local arguments = require "fp8.nn.arguments"
local convert = require("fp8.ops.copy").to
local multiply = require("fp8.ops.elementwise").mul
local Module = require "fp8.nn.module"

local LayerScale = Module:extend("LayerScale")

--- fp8.nn.LayerScale(features [, {initial = 0, dtype =, device =}]): x · gamma, for the end of a residual branch. At 0
-- every block starts as the identity, which keeps feature magnitudes down: Touvron et al., "Going deeper with image
-- transformers" (2021), and Wortsman et al., "Stable and low-precision training" (2023).
--   fp8.nn.LayerScale(2, {initial = 0.5})(fp8.tensor {{2, 4}}) --> {{1, 2}}
function LayerScale:init(features, options)
  arguments.check_size(self.class_name, "features", features)
  options = check_options(self.class_name, options, {initial = "number", dtype = "dtype", device = "device"})
  self.features = features
  self.gamma = arguments.constant({features}, options.initial or 0, options)
end

--- x (…, features) to the same shape and dtype.
function LayerScale:forward(x, ...)
  arguments.check_one(self, "an input (…, features)", ...)
  if not core.is_tensor(x) then core.raise("LayerScale: the input must be a tensor, got " .. type(x)) end
  local gamma, dtype = self.gamma, core.dtype(x)
  if core.dtype(gamma) ~= dtype then gamma = convert(gamma, {dtype = dtype}) end
  return multiply(x, gamma)
end

function LayerScale:description() return ("%d"):format(self.features) end

return LayerScale

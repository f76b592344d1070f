--- Normalization of groups of channels: Wu and He, "Group normalization" (2018).
local check = require "fp8.nn.arguments"
local arguments = require "fp8.nn.normalization.arguments"
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local elementwise = require "fp8.ops.elementwise"
local layer_norm = require("fp8.ops.normalize").layer_norm
local to = require("fp8.ops.copy").to
local view = require "fp8.ops.view"
local Module = require "fp8.nn.module"

local known_options = {epsilon = "number", affine = "boolean", dtype = "dtype", device = "device"}

local GroupNorm = Module:extend("GroupNorm")

local function make(self, groups, channels, affine, options)
  self.groups, self.channels, self.epsilon = groups, channels, arguments.epsilon(self.class_name, options)
  if affine then
    self.weight, self.bias = check.constant({channels}, 1, options), check.constant({channels}, 0, options)
  end
end

--- fp8.nn.GroupNorm(groups, channels [, {epsilon = 1e-5, affine = true, dtype =, device =}]): (x - mean) / √(variance +
-- epsilon) · weight + bias of x (images, channels, …), with mean and variance over each image's groups of neighbouring
-- channels, weight and bias by channel; computed in f32 and rounded once to x's dtype.
--   fp8.nn.GroupNorm(1, 2, {epsilon = 0})(fp8.tensor {{1, 3}}) --> {{-1, 1}}
function GroupNorm:init(groups, channels, options)
  local name = self.class_name
  check.check_size(name, "groups", groups)
  check.check_size(name, "channels", channels)
  options = check_options(name, options, known_options)
  if channels % groups ~= 0 then
    core.raise(("%s: %d channels are no multiple of %d groups"):format(name, channels, groups))
  end
  make(self, groups, channels, options.affine ~= false, options)
end

function GroupNorm:forward(x, ...)
  check.check_one(self, "one input", ...)
  arguments.check_channels(self.class_name, x, self.channels, self.least or 2, self.most or 8)
  local shape, dtype = core.shape(x), core.dtype(x)
  local length = self.channels / self.groups
  for i = 3, #shape do length = length * shape[i] end
  local rows = view.reshape(to(x, "f32"), shape[1] * self.groups, length)
  local y = view.view(layer_norm(rows, nil, nil, self.epsilon), shape)
  if self.weight then
    y = elementwise.add(elementwise.mul(y, arguments.beside(x, self.weight)), arguments.beside(x, self.bias))
  end
  return to(y, dtype)
end

function GroupNorm:description()
  return ("%d, %d, epsilon = %g%s"):format(self.groups, self.channels, self.epsilon,
    self.weight and "" or ", affine = false")
end

local InstanceNorm = GroupNorm:extend("InstanceNorm")

function InstanceNorm:init(channels, options)
  check.check_size(self.class_name, "channels", channels)
  options = check_options(self.class_name, options, known_options)
  make(self, channels, channels, options.affine or false, options)
end

--- fp8.nn.InstanceNorm2d(channels [, {epsilon = 1e-5, affine = false, dtype =, device =}]): GroupNorm of each channel
-- of each image, of x (images, channels, height, width). (PyTorch's track_running_stats is missing.)
--   fp8.nn.InstanceNorm2d(3)(fp8.randn(2, 3, 8, 8)).shape --> {2, 3, 8, 8}
local InstanceNorm2d = InstanceNorm:extend("InstanceNorm2d")
InstanceNorm2d.least, InstanceNorm2d.most = 4, 4

--- fp8.nn.InstanceNorm1d(channels [, options]): the same of (images, channels, length).
--   fp8.nn.InstanceNorm1d(1, {epsilon = 0})(fp8.tensor {{{1, 3}}}) --> {{{-1, 1}}}
local InstanceNorm1d = InstanceNorm:extend("InstanceNorm1d")
InstanceNorm1d.least, InstanceNorm1d.most = 3, 3

return {GroupNorm = GroupNorm, InstanceNorm1d = InstanceNorm1d, InstanceNorm2d = InstanceNorm2d}

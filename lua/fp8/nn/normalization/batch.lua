--- Batch normalization: Ioffe and Szegedy, "Batch normalization" (2015).
local arguments = require "fp8.nn.normalization.arguments"
local batch_norm = require "fp8.ops.normalize.batch"
local changes = require "fp8.changes"
local check = require "fp8.nn.arguments"
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local elementwise = require "fp8.ops.elementwise"
local shape_text = require("fp8.shapes").text
local to = require("fp8.ops.copy").to
local Module = require "fp8.nn.module"

local known_options = {
  epsilon = "number", momentum = true, affine = "boolean", track_running_stats = "boolean", dtype = "dtype",
  device = "device",
}

local BatchNorm = Module:extend("BatchNorm")

function BatchNorm:init(features, options)
  local name = self.class_name
  check.check_size(name, "features", features)
  options = check_options(name, options, known_options)
  local momentum = options.momentum
  if momentum == nil then momentum = 0.1 end
  if momentum ~= false and not (type(momentum) == "number" and momentum >= 0 and momentum <= 1) then
    core.raise(("%s: option momentum must be a number from 0 to 1, or false, got %s"):format(name, tostring(momentum)))
  end
  self.features, self.epsilon, self.momentum = features, arguments.epsilon(name, options), momentum
  if options.affine ~= false then
    self.weight, self.bias = check.constant({features}, 1, options), check.constant({features}, 0, options)
  end
  if options.track_running_stats ~= false then
    self.running_mean = core.zeros({features}, {dtype = "f32", device = options.device})
    self.running_var = core.ones({features}, {dtype = "f32", device = options.device})
    self.num_batches_tracked = core.zeros({}, {dtype = "i64", device = options.device})
  end
end

--- Running statistics are f32.
function BatchNorm.keeps_dtype(_, field) return field == "running_mean" or field == "running_var" end

local function enter(self, mean, variance)
  local count = core.add(self.num_batches_tracked, 1)
  local share = self.momentum or core.div(1, core.to(count, {dtype = "f32"}))
  local function moved(running, value) return core.add(running, core.mul(core.sub(value, running), share)) end
  changes.copy(self.running_mean, moved(self.running_mean, mean))
  changes.copy(self.running_var, moved(self.running_var, variance))
  changes.copy(self.num_batches_tracked, count)
end

-- x by its own statistics.
local function by_batch(self, x)
  local count = core.numel(x) / self.features
  if self.training and count <= 1 then
    core.raise(("%s: more than one value of each channel is needed in training, got shape %s"):format(self.class_name,
      shape_text(core.shape(x))))
  end
  local y, mean, variance = batch_norm(x, self.weight, self.bias, self.epsilon)
  if self.training and self.running_mean then
    changes.together(enter, self, mean, core.mul(variance, count / (count - 1))) -- the unbiased estimate
  end
  return y
end

-- x by the running statistics.
local function by_history(self, x)
  local inverse = core.rsqrt(core.add(self.running_var, self.epsilon))
  local y = elementwise.sub(to(x, "f32"), arguments.beside(x, self.running_mean))
  y = elementwise.mul(y, arguments.beside(x, inverse))
  if self.weight then
    y = elementwise.add(elementwise.mul(y, arguments.beside(x, self.weight)), arguments.beside(x, self.bias))
  end
  return to(y, core.dtype(x))
end

--- Of x (images, channels, …), computed in f32 and rounded once to x's dtype.
function BatchNorm:forward(x, ...)
  check.check_one(self, "one input", ...)
  arguments.check_channels(self.class_name, x, self.features, self.least, self.most)
  return ((self.training or not self.running_mean) and by_batch or by_history)(self, x)
end

function BatchNorm:description()
  local text = ("%d, epsilon = %g, momentum = %s"):format(self.features, self.epsilon, tostring(self.momentum))
  if not self.weight then text = text .. ", affine = false" end
  return self.running_mean and text or text .. ", track_running_stats = false"
end

--- fp8.nn.BatchNorm2d(channels [, options]): (x - mean) / √(variance + epsilon) · weight + bias of x (images, channels,
-- height, width), by channel. In training, mean and (biased) variance are those of x, which may not have a single value
-- a channel, and enter the fields running_mean and running_var (of the unbiased one); after eval() these are used.
-- Running statistics and the number of batches, num_batches_tracked, belong to the state_dict and are no parameters;
-- the statistics stay f32 in :to "bf16".
--   fp8.nn.BatchNorm2d(3)(fp8.randn(2, 3, 8, 8)).shape --> {2, 3, 8, 8}
-- @param options {epsilon = 1e-5, momentum = 0.1 (the share of a batch in the running statistics, or false: all batches
--   count alike), affine = true (weight and bias), track_running_stats = true (else x's own are used in evaluation,
--   too), dtype =, device =}
local BatchNorm2d = BatchNorm:extend("BatchNorm2d")
BatchNorm2d.least, BatchNorm2d.most = 4, 4

--- fp8.nn.BatchNorm1d(channels [, options]): the same of x (images, channels) or (images, channels, length).
--   fp8.nn.BatchNorm1d(1, {epsilon = 0})(fp8.tensor {{1}, {3}}) --> {{-1}, {1}}
local BatchNorm1d = BatchNorm:extend("BatchNorm1d")
BatchNorm1d.least, BatchNorm1d.most = 2, 3

return {BatchNorm1d = BatchNorm1d, BatchNorm2d = BatchNorm2d}

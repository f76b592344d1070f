--- Batch normalization by the statistics of the batch itself, with its derivative; the module is fp8.nn.BatchNorm2d.
local autograd = require "fp8.autograd"
local core = require "fp8.core"

local free, needs_grad, record = core.free, autograd.needs_grad, autograd.record

-- What a channel has of an image lies side by side, and is taken as a run. Where such runs are short, all images' are
-- brought together first: (images, channels, elements) becomes (1, channels, images · elements).
local short = 8

local function is_short(images) return images[3] < short and images[1] > 1 end

-- A view of x, which is freed unless the caller has it, in row-major order.
local function ordered(x, shape, keeps)
  local whole = core.contiguous(x)
  local view = core.view(whole, shape)
  if whole ~= x then free(whole) end
  if not keeps then free(x) end
  return view
end

local function as_runs(x, images)
  local runs = ordered(x, images, true)
  if not is_short(images) then return runs end
  local turned = core.transpose(runs, 1, 2)
  free(runs)
  return ordered(turned, {1, images[2], images[1] * images[3]})
end

-- The other way, of what nothing else has.
local function from_runs(runs, images, shape)
  if not is_short(images) then return ordered(runs, shape) end
  local by_channel = ordered(runs, {images[2], images[1], images[3]})
  local turned = core.transpose(by_channel, 1, 2)
  free(by_channel)
  return ordered(turned, shape)
end

local normalization = {
  name = "batch_norm",
  backward = function(node, grad, x, weight, mean)
    local inputs, bias, images = node.inputs, node.inputs[3], node.images
    local dy, runs = as_runs(grad, images), as_runs(x, images)
    local gradients = core.normalize_backward {
      by_channel = true, dy = dy, x = runs, mean = mean, inverse = node.saved[4], weight = weight or nil,
      want_x = inputs[1] and true, want_weight = inputs[2] and true, bias_dtype = bias and bias.dtype or nil,
    }
    free(dy)
    free(runs)
    return gradients.x and from_runs(gradients.x, images, node.shape), gradients.weight, gradients.bias
  end,
}

--- (x - mean) / √(variance + epsilon) · weight + bias, with each channel's mean and biased variance, in float32
-- and rounded once.
-- @param x      (images, channels, …), f32, f16 or bf16
-- @param weight (channels) of x's dtype or f32, or nil; likewise bias, which comes with it
-- @return y of x's shape and dtype; the means and variances (channels), f32
return function(x, weight, bias, epsilon)
  local shape = core.shape(x)
  local elements = 1
  for i = 3, #shape do elements = elements * shape[i] end
  local images = {shape[1], shape[2], elements}
  local runs = as_runs(x, images)
  local normalized, mean, inverse, variance = core.batch_norm(runs, weight, bias, epsilon)
  free(runs)
  local y = from_runs(normalized, images, shape)
  if needs_grad(x, weight, bias) then
    record(y, normalization, {x, weight or false, bias or false}, {x, weight or false, mean, inverse}).images = images
  end
  return y, core.select(mean, 2, 1), variance
end

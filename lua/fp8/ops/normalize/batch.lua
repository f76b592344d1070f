--- Batch normalization by the statistics of the batch itself, with its derivative; the module is fp8.nn.BatchNorm2d.
--
-- With d = s · x - m, where m is close to the mean of s · x, and r the mean of d: the variance is mean(d²) - r², over
-- s². So a mean that is no float32 number is subtracted as it is, and with s = 1/2 no difference of finite numbers is
-- infinite (f16 takes 1: its small numbers have no halves, and its differences fit).
local autograd = require "fp8.autograd"
local core = require "fp8.core"

local free, needs_grad, record = core.free, autograd.needs_grad, autograd.record
local add, mul, sub = core.add, core.mul, core.sub

local function scale_of(x) return core.dtype(x) == "f16" and 1 or 0.5 end

-- s · x - m of x (images, channels, elements), f32.
local function differences(x, shift, scale)
  if scale == 1 then return sub(x, shift) end
  local scaled = mul(x, scale)
  local d = sub(scaled, shift)
  free(scaled)
  return d
end

local over = {1, 3} -- what statistics are taken over

-- d, and {shift = m, rest = r, deviation = of s · x, inverse = 1 / (s · √(variance + epsilon))}, (1, channels, 1) f32.
local function statistics(x, scale, epsilon)
  local scaled = scale == 1 and x or mul(x, scale)
  local shift = core.to(core.mean(scaled, over, true), {dtype = "f32"})
  local d = sub(scaled, shift)
  if scaled ~= x then free(scaled) end
  local rest = core.mean(d, over, true)
  local root = mul(core.norm(d, over, true), 1 / math.sqrt(core.numel(d) / math.max(core.numel(rest), 1)))
  local size = core.abs(rest)
  local deviation = mul(core.sqrt(core.relu(sub(root, size))), core.sqrt(add(root, size)))
  local inverse = core.div(1, core.hypot(deviation, scale * math.sqrt(epsilon)))
  return d, {shift = shift, rest = rest, deviation = deviation, inverse = inverse}
end

local function by_channel(parameter)
  return core.view(core.to(parameter, {dtype = "f32"}), {1, core.numel(parameter), 1})
end

local normalization = {
  name = "batch_norm",
  backward = function(node, grad, x, weight)
    local inputs, known, shape = node.inputs, node.context, node.shape
    local images = core.view(core.contiguous(x), known.images)
    local n = differences(images, known.shift, known.scale)
    core.mul_(n, known.inverse) -- this is (x - mean) / √(variance + epsilon) + offset
    local offset = mul(known.rest, known.inverse)
    local dy = core.to(core.view(core.contiguous(grad), known.images), {dtype = "f32"})
    local sum_dy = core.sum(dy, over, true)
    local products = mul(dy, n)
    local sum_products = sub(core.sum(products, over, true), mul(offset, sum_dy))
    free(products)
    local dx
    if inputs[1] then
      local count = core.numel(dy) / core.numel(sum_dy)
      local factor = mul(known.inverse, known.scale)
      if weight then factor = mul(factor, by_channel(weight)) end
      local mean_products = mul(sum_products, 1 / count)
      core.mul_(n, mean_products)
      local whole = sub(dy, n)
      core.add_(whole, sub(mul(offset, mean_products), mul(sum_dy, 1 / count)))
      core.mul_(whole, factor)
      dx = core.view(core.to(whole, {dtype = node.dtype}), shape)
      if node.dtype ~= "f32" then free(whole) end
    end
    free(n)
    free(dy)
    local channels = {core.numel(sum_dy)}
    return dx, inputs[2] and core.view(sum_products, channels), inputs[3] and core.view(sum_dy, channels)
  end,
}

--- (x - mean) / √(variance + epsilon) · weight + bias, with each channel's mean and biased variance, in float32
-- and rounded once.
-- @param x      (images, channels, …), f32, f16 or bf16, with elements
-- @param weight (channels), or nil; likewise bias, which comes with it
-- @return y of x's shape and dtype; the means and variances (channels), f32
return function(x, weight, bias, epsilon)
  local shape, dtype, scale = core.shape(x), core.dtype(x), scale_of(x)
  local channels = shape[2]
  local elements = 1
  for i = 3, #shape do elements = elements * shape[i] end
  local images = {shape[1], channels, elements}
  local y, known = statistics(core.view(core.contiguous(x), images), scale, epsilon)
  local factor, offset = known.inverse, mul(known.rest, known.inverse)
  if weight then
    local own = by_channel(weight)
    factor, offset = mul(factor, own), sub(mul(offset, own), by_channel(bias))
  end
  core.mul_(y, factor)
  core.sub_(y, offset)
  local result = core.view(core.to(y, {dtype = dtype}), shape)
  if dtype ~= "f32" then free(y) end
  if needs_grad(x, weight, bias) then
    record(result, normalization, {x, weight or false, bias or false}, {x, weight or false},
      {shift = known.shift, rest = known.rest, inverse = known.inverse, scale = scale, images = images})
  end
  local mean = mul(add(known.shift, known.rest), 1 / scale)
  local deviation = mul(known.deviation, 1 / scale)
  return result, core.view(mean, {channels}), core.view(mul(deviation, deviation), {channels})
end

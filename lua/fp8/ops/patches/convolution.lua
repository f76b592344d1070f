--- Convolutions (of signals: cross-correlations), as PyTorch has them.
local as_dtype = require "fp8.linear.as_dtype"
local autograd = require "fp8.autograd"
local check_arguments = require "fp8.ops.check"
local computable = require "fp8.computable"
local core = require "fp8.core"
local shape_text = require("fp8.shapes").text
local window = require "fp8.ops.patches.window"

local free, needs_grad, raise, record = core.free, autograd.needs_grad, core.raise, autograd.record
local shape_of, whole = core.shape, check_arguments.whole

local convolution = {}

-- The gradients are those of images and of a weight of four dimensions.
local convolving = {
  name = "convolution",
  backward = function(node, grad, x, weight)
    local dimensions, inputs = node.dimensions, node.inputs
    local dy, images = window.as_images(grad, dimensions), window.as_images(x, dimensions)
    local kernel = window.as_images(weight, dimensions)
    local dx, dweight = core.convolution_backward(dy, images, kernel, node.groups, inputs[1] and true or false,
      inputs[2] and inputs[2].dtype or nil, unpack(node.window))
    local dbias
    if inputs[3] then
      local terms = as_dtype(dy, inputs[3].dtype)
      dbias = core.sum(terms, {1, 3, 4})
      if terms ~= dy then free(terms) end
    end
    if dx then dx = window.like(x, dx, dimensions) end
    if dweight then dweight = window.like(weight, dweight, dimensions) end
    if images ~= x then free(images) end
    if kernel ~= weight then free(kernel) end
    if dy ~= grad then free(dy) end
    return dx, dweight, dbias
  end,
}

--- The numbers of the window of a convolution: those of window.numbers.
-- @param sides   of the kernel, a pair
-- @param options {stride =, padding = numbers, lists, "same" or "valid", dilation =}
function convolution.window(name, dimensions, sides, options)
  local stride = window.pair(name, "stride", options.stride or 1, dimensions, 1, 1)
  local dilation = window.pair(name, "dilation", options.dilation or 1, dimensions, 1, 1)
  local padding = options.padding or 0
  if padding == "valid" then padding = 0 end
  if padding ~= "same" then
    if type(padding) == "string" then
      raise(("%s: padding must be numbers, same or valid, got %s"):format(name, padding))
    end
    return window.numbers(sides, stride, dilation, window.pair(name, "padding", padding, dimensions, 0, 0))
  end
  local before, after = {}, {}
  for i = 1, 2 do
    if stride[i] ~= 1 then raise(("%s: padding same is for a stride of 1"):format(name)) end
    local total = (sides[i] - 1) * dilation[i]
    before[i] = math.floor(total / 2)
    after[i] = total - before[i]
  end
  return window.numbers(sides, stride, dilation, before, after)
end

--- Raises an error unless x, weight (outputs, channels / groups, kernel sides) and bias (outputs, or nil) fit.
function convolution.check(name, x, weight, bias, dimensions, groups)
  window.check_images(name, x, dimensions)
  check_arguments.tensor(name, 2, weight, dimensions + 2)
  local dtype, weight_dtype = core.dtype(x), core.dtype(weight)
  if not computable[dtype] then raise(("%s: the input must be f32, f16 or bf16, got %s"):format(name, dtype)) end
  if weight_dtype ~= dtype and weight_dtype ~= "f32" then
    raise(('%s: the input is %s, the weight %s: write x:to "%s" or layer:to "%s"'):format(name, dtype, weight_dtype,
      weight_dtype, dtype))
  end
  local outputs, channels = core.size(weight, 1), core.size(x, -1 - dimensions)
  if outputs % groups ~= 0 or core.size(weight, 2) * groups ~= channels then
    raise(("%s: input %s and weight %s: %d channels and %d outputs do not fit in %d group%s"):format(name,
      shape_text(shape_of(x)), shape_text(shape_of(weight)), channels, outputs, groups, groups == 1 and "" or "s"))
  end
  if bias == nil then return end
  check_arguments.tensor(name, 3, bias, 1)
  if core.size(bias, 1) ~= outputs then
    raise(("%s: the bias must have shape (%d), got %s"):format(name, outputs, shape_text(shape_of(bias))))
  elseif not computable[core.dtype(bias)] then
    raise(("%s: the bias must be f32, f16 or bf16, got %s"):format(name, core.dtype(bias)))
  end
end

--- y of x, both with or without images.
-- @param numbers of the window
function convolution.apply(name, x, weight, bias, dimensions, groups, numbers)
  convolution.check(name, x, weight, bias, dimensions, groups)
  local dtype = core.dtype(x)
  local factor, addend = as_dtype(weight, dtype), bias and as_dtype(bias, dtype) or nil
  local images, kernel = window.as_images(x, dimensions), window.as_images(factor, dimensions)
  window.outputs(name, numbers, core.size(images, 3), core.size(images, 4))
  local y = core.convolution(images, kernel, addend, groups, unpack(numbers))
  y = window.like(x, y, dimensions)
  if needs_grad(x, weight, bias) then
    local node = record(y, convolving, {x, weight, bias or false}, {x, factor})
    node.dimensions, node.groups, node.window = dimensions, groups, numbers
  end
  if images ~= x then free(images) end
  if kernel ~= factor then free(kernel) end
  return y
end

local names = {"stride", "padding", "dilation", "groups"}
local known = {stride = true, padding = true, dilation = true, groups = "number"}

local function convolve(name, dimensions, x, weight, bias, ...)
  local options = window.named(name, names, known, ...)
  local groups = whole(name, "groups", options.groups == nil and 1 or options.groups, 1)
  check_arguments.tensor(name, 2, weight, dimensions + 2)
  local sides = {dimensions == 1 and 1 or core.size(weight, 3), core.size(weight, -1)}
  return convolution.apply(name, x, weight, bias, dimensions, groups,
    convolution.window(name, dimensions, sides, options))
end

--- fp8.conv2d(x, weight [, bias [, {stride = 1, padding = 0, dilation = 1, groups = 1}]]): y[o] = bias[o] + Σ x[c] ·
-- weight[o][c] over the channels c of o's group and the positions of the kernel; sums are float32. On GPUs cuDNN
-- computes it where it is installed, in float32 by transforms that err by less than 1e-5 perhaps; on the CPU oneDNN,
-- where that is faster than products of patches.
-- @param x      (images, channels, height, width), with or without images, f32, f16 or bf16
-- @param weight (outputs, channels / groups, kernel height, kernel width) of x's dtype, or f32
-- @param bias   (outputs), or nil
-- Options may come in this order without names; sizes are numbers or lists {height, width}. padding = "same" keeps the
-- size at a stride of 1 (an odd number has one more at the end), "valid" is 0.
--   fp8.conv2d(fp8.arange(9):view(1, 3, 3), fp8.ones(1, 1, 2, 2)) --> {{{8, 12}, {20, 24}}}
--   fp8.conv2d(fp8.ones(1, 3, 3), fp8.ones(1, 1, 3, 3), nil, {padding = "same", stride = 1})[1][1] --> {4, 6, 4}
function convolution.conv2d(x, weight, bias, ...) return convolve("conv2d", 2, x, weight, bias, ...) end

--- fp8.conv1d(x, weight [, bias [, {…}]]): the same of (images, channels, length) with a weight (outputs, channels /
-- groups, kernel length).
--   fp8.conv1d(fp8.tensor({{1, 2, 3, 4}}), fp8.tensor({{{1, -1}}}), nil, {stride = 2}) --> {{-1, -1}}
function convolution.conv1d(x, weight, bias, ...) return convolve("conv1d", 1, x, weight, bias, ...) end

return convolution

--- Pooling: the largest element of each window, or the mean. Images are (images, channels, height, width), with or
-- without images, for the 2d forms, and (images, channels, length) for the 1d forms; f32, f16 or bf16. Arguments after
-- the first two come in PyTorch's order or by name in a table.
local autograd = require "fp8.autograd"
local computable = require "fp8.computable"
local core = require "fp8.core"
local window = require "fp8.ops.patches.window"

local free, needs_grad, raise, record = core.free, autograd.needs_grad, core.raise, autograd.record
local shape_of = core.shape

local pool = {}

local pooling = {
  name = "pool",
  backward = function(node, grad, positions)
    local images = window.as_images(grad, node.dimensions)
    local dx = core.pool_backward(images, positions or nil, node.images, unpack(node.rule))
    if images ~= grad then free(images) end
    return window.like(grad, dx, node.dimensions)
  end,
}

-- What x gives by a rule as core.pool takes it, and the positions of the largest elements where the gradient or
-- `indices` asks for them.
local function pooled(name, x, dimensions, rule, indices)
  window.check_images(name, x, dimensions)
  if not computable[core.dtype(x)] then
    raise(("%s: the input must be f32, f16 or bf16, got %s"):format(name, core.dtype(x)))
  end
  local images = window.as_images(x, dimensions)
  if rule[5] then window.outputs(name, {unpack(rule, 3)}, core.size(images, 3), core.size(images, 4), rule[2]) end
  local kind = rule[1]
  if kind == "max" and not indices and not needs_grad(x) then kind = "max_alone" end
  local y, positions = core.pool(images, kind, unpack(rule, 2))
  y = window.like(x, y, dimensions)
  if needs_grad(x) then
    local node = record(y, pooling, {x}, {positions or false})
    node.dimensions, node.rule, node.images = dimensions, rule, shape_of(images)
  end
  if images ~= x then free(images) end
  return y, positions
end

-- The rule, "max", "mean" or the like, whether a last window may end outside, and a window.
local function rule_of(name, kind, dimensions, kernel, options)
  local sides = window.pair(name, "the kernel", kernel, dimensions, 1, 1)
  local stride = options.stride and window.pair(name, "stride", options.stride, dimensions, 1, 1) or sides
  local padding = window.pair(name, "padding", options.padding or 0, dimensions, 0, 0)
  local dilation = window.pair(name, "dilation", options.dilation or 1, dimensions, 1, 1)
  for i = 1, 2 do
    if 2 * padding[i] > (sides[i] - 1) * dilation[i] + 1 then
      raise(("%s: a padding of %d is more than half of the kernel, which spans %d"):format(name, padding[i],
        (sides[i] - 1) * dilation[i] + 1))
    end
  end
  return {kind, options.ceil_mode or false, unpack(window.numbers(sides, stride, dilation, padding))}
end

local max_names = {"stride", "padding", "dilation", "ceil_mode", "return_indices"}
local max_known = {stride = true, padding = true, dilation = true, ceil_mode = "boolean", return_indices = "boolean"}

local function max_pool(name, x, dimensions, kernel, ...)
  local options = window.named(name, max_names, max_known, ...)
  local y, positions = pooled(name, x, dimensions, rule_of(name, "max", dimensions, kernel, options),
    options.return_indices)
  if not options.return_indices then return y end
  return y, window.like(x, core.share(positions), dimensions)
end

--- fp8.max_pool2d(x, kernel_size [, {stride = kernel_size, padding = 0, dilation = 1, ceil_mode = false,
-- return_indices = false}]): the largest element of each window; sizes are numbers or lists {height, width}. The
-- padding, at most half of the kernel, has none; NaN is the largest. With ceil_mode a last window may end outside. With
-- return_indices a second result has the positions in height · width, i64 from 0: of equal elements the first, which
-- gets the gradient.
--   fp8.max_pool2d(fp8.arange(16):view(1, 4, 4), 2) --> {{{5, 7}, {13, 15}}}
function pool.max_pool2d(x, kernel, ...) return max_pool("max_pool2d", x, 2, kernel, ...) end

--- fp8.max_pool1d(x, kernel_size [, {…}]): the same of (images, channels, length).
--   fp8.max_pool1d(fp8.tensor({{3, 1, 2, 4}}), 3, 1) --> {{3, 4}}
function pool.max_pool1d(x, kernel, ...) return max_pool("max_pool1d", x, 1, kernel, ...) end

local average_names = {"stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"}
local average_known = {
  stride = true, padding = true, ceil_mode = "boolean", count_include_pad = "boolean", divisor_override = "number",
}

local function avg_pool(name, x, dimensions, kernel, ...)
  local options = window.named(name, average_names, average_known, ...)
  local kind = options.count_include_pad == false and "mean" or "padded_mean"
  local divisor = options.divisor_override
  if divisor and (divisor == 0 or divisor ~= math.floor(divisor) or math.abs(divisor) > 2 ^ 53) then
    raise(("%s: divisor_override must be a whole number other than 0, got %s"):format(name, divisor))
  end
  return (pooled(name, x, dimensions, rule_of(name, divisor or kind, dimensions, kernel, options)))
end

--- fp8.avg_pool2d(x, kernel_size [, {stride = kernel_size, padding = 0, ceil_mode = false, count_include_pad = true,
-- divisor_override =}]): the mean of each window, in which the zeros of the padding count unless count_include_pad is
-- false; or its sum over another divisor.
--   fp8.avg_pool2d(fp8.arange(16):view(1, 4, 4), 2) --> {{{2.5, 4.5}, {10.5, 12.5}}}
function pool.avg_pool2d(x, kernel, ...) return avg_pool("avg_pool2d", x, 2, kernel, ...) end

--- fp8.avg_pool1d(x, kernel_size [, {…}]): the same of (images, channels, length).
--   fp8.avg_pool1d(fp8.tensor({{3, 1, 2, 4}}), 2) --> {{2, 3}}
function pool.avg_pool1d(x, kernel, ...) return avg_pool("avg_pool1d", x, 1, kernel, ...) end

local function adaptive(name, kind, x, dimensions, output_size, indices)
  local sizes = window.pair(name, "the output size", output_size, dimensions, 0, 1)
  return pooled(name, x, dimensions, {kind, false, sizes[1], sizes[2]}, indices)
end

--- fp8.adaptive_avg_pool2d(x, output_size): means of so many windows as equal as they can be, a number or a list
-- {height, width}: window i of n covers positions (i - 1) · size / n, rounded down, to i · size / n, rounded up.
--   fp8.adaptive_avg_pool2d(fp8.arange(9):view(1, 3, 3), {1, 2}) --> {{{3.5, 4.5}}}
function pool.adaptive_avg_pool2d(x, output_size)
  return (adaptive("adaptive_avg_pool2d", "mean", x, 2, output_size))
end

--- fp8.adaptive_avg_pool1d(x, output_size): the same of (images, channels, length).
--   fp8.adaptive_avg_pool1d(fp8.tensor({{3, 1, 2, 4}}), 2) --> {{2, 3}}
function pool.adaptive_avg_pool1d(x, output_size)
  return (adaptive("adaptive_avg_pool1d", "mean", x, 1, output_size))
end

local adaptive_known = {return_indices = "boolean"}

local function adaptive_max(name, x, dimensions, output_size, ...)
  local options = window.named(name, {"return_indices"}, adaptive_known, ...)
  local y, positions = adaptive(name, "max", x, dimensions, output_size, options.return_indices)
  if not options.return_indices then return y end
  return y, window.like(x, core.share(positions), dimensions)
end

--- fp8.adaptive_max_pool2d(x, output_size [, {return_indices = false}]): the largest elements of such windows.
--   fp8.adaptive_max_pool2d(fp8.arange(9):view(1, 3, 3), {1, 2}) --> {{{7, 8}}}
function pool.adaptive_max_pool2d(x, output_size, ...)
  return adaptive_max("adaptive_max_pool2d", x, 2, output_size, ...)
end

--- fp8.adaptive_max_pool1d(x, output_size [, {return_indices = false}]): the same of (images, channels, length).
--   fp8.adaptive_max_pool1d(fp8.tensor({{3, 1, 2, 4}}), 2) --> {{3, 4}}
function pool.adaptive_max_pool1d(x, output_size, ...)
  return adaptive_max("adaptive_max_pool1d", x, 1, output_size, ...)
end

return pool

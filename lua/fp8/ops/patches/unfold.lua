--- Windows of a dimension, and the patches of images.
local autograd = require "fp8.autograd"
local check = require "fp8.ops.check"
local computable = require "fp8.computable"
local core = require "fp8.core"
local window = require "fp8.ops.patches.window"

local free, needs_grad, raise, record = core.free, autograd.needs_grad, core.raise, autograd.record
local shape_of, size = core.shape, core.size

local unfold = {}

-- --- windows of a dimension ---

local taking_windows = {
  name = "unfold",
  backward = function(node, grad)
    -- Windows are patches of images of one row, whose channels are all dimensions but that one.
    local dimension, length, step, shape = node.dimension, node.length, node.step, node.input_shape
    local rank = #shape
    if length == 0 then return core.zeros(shape, {dtype = core.dtype(grad), device = core.device(grad)}) end
    local order, back = {}, {}
    for i = 1, rank do
      if i ~= dimension then order[#order + 1] = i end
    end
    order[rank], order[rank + 1] = rank + 1, dimension
    for i = 1, rank - 1 do back[order[i]] = i end
    back[dimension] = rank
    local turned = core.permute(grad, order)
    local whole = core.contiguous(turned)
    local sizes, rest = {}, 1
    for i = 1, rank - 1 do
      sizes[i] = shape[order[i]]
      rest = rest * sizes[i]
    end
    sizes[rank] = shape[dimension]
    local columns = core.view(whole, {1, rest * length, size(grad, dimension)})
    local images = core.fold_patches(columns, {1, rest, 1, shape[dimension]}, 1, length, 1, step, 1, 1, 0, 0, 0, 0)
    local summed = core.view(images, sizes)
    local result = core.permute(summed, back)
    for _, tensor in ipairs {columns, images, summed} do free(tensor) end
    if whole ~= turned then free(whole) end
    free(turned)
    return result
  end,
}

local function windows(x, dimension, length, step)
  dimension = check.dimension("unfold", x, dimension)
  check.whole("unfold", "the size", length, 0)
  check.whole("unfold", "the step", step, 1)
  if length > size(x, dimension) then
    raise(("unfold: windows of size %d do not fit dimension %d of size %d"):format(length, dimension,
      size(x, dimension)))
  end
  local y = core.windows(x, dimension, length, step)
  if needs_grad(x) then
    local node = record(y, taking_windows, {x})
    node.dimension, node.length, node.input_shape = dimension, length, shape_of(x)
    node.step = math.min(step, math.max(size(x, dimension), 1)) -- a longer one makes one window as well
  end
  return y
end

-- --- patches ---

local names = {"dilation", "padding", "stride"}
local known = {dilation = true, padding = true, stride = true}

local function read_window(name, kernel, ...)
  local options = window.named(name, names, known, ...)
  return window.numbers(window.pair(name, "the kernel", kernel, 2, 1),
    window.pair(name, "stride", options.stride or 1, 2, 1),
    window.pair(name, "dilation", options.dilation or 1, 2, 1),
    window.pair(name, "padding", options.padding or 0, 2, 0))
end

-- Columns without the dimension of images where x has none.
local function without_images(x, columns)
  if core.rank(x) == 4 then return columns end
  local y = core.view(columns, {size(columns, 2), size(columns, 3)})
  free(columns)
  return y
end

local unfolding = {
  name = "unfold",
  backward = function(node, grad)
    local sizes = node.images
    local whole = core.contiguous(grad)
    local columns = core.view(whole, {sizes[1], size(whole, -2), size(whole, -1)})
    local images = core.fold_patches(columns, sizes, unpack(node.window))
    free(columns)
    if whole ~= grad then free(whole) end
    local dx = core.view(images, node.input_shape)
    free(images)
    return dx
  end,
}

local function patches(x, kernel, ...)
  window.check_images("unfold", x, 2)
  local numbers = read_window("unfold", kernel, ...)
  window.outputs("unfold", numbers, size(x, -2), size(x, -1))
  local images = window.as_images(x, 2)
  local y = without_images(x, core.unfold_patches(images, false, unpack(numbers)))
  if needs_grad(x) then
    local node = record(y, unfolding, {x})
    node.images, node.window, node.input_shape = shape_of(images), numbers, shape_of(x)
  end
  if images ~= x then free(images) end
  return y
end

--- Two functions of PyTorch's by one name, which the third argument tells apart.
--
-- x:unfold(dim, size, step): windows of `size` positions of a dimension that begin every `step` ones, as a view: the
-- dimension counts windows, and a last one their positions. Windows that overlap share memory and can't be written to.
--   fp8.arange(5):unfold(1, 3, 2) --> {{0, 1, 2}, {2, 3, 4}}
--
-- fp8.unfold(x, kernel_size [, {dilation = 1, padding = 0, stride = 1}]): the patches of images, nn.functional.unfold
-- or im2col. x is (images, channels, height, width) of any dtype, with or without images; the result is (images,
-- channels · kernel sides, patches). Sizes are numbers, or lists {height, width}. (PyTorch's order without names goes
-- on with dilation; three numbers are windows of a dimension here.)
--   fp8.unfold(fp8.arange(9):view(1, 3, 3), {2, 2}) --> {{0, 1, 3, 4}, {1, 2, 4, 5}, {3, 4, 6, 7}, {4, 5, 7, 8}}
function unfold.unfold(x, kernel, size_or_options, ...)
  if type(kernel) == "number" and type(size_or_options) == "number" then
    return windows(x, kernel, size_or_options, ...)
  end
  return patches(x, kernel, size_or_options, ...)
end

local folding = {
  name = "fold",
  backward = function(node, grad)
    local images = window.as_images(grad, 2)
    local columns = core.unfold_patches(images, false, unpack(node.window))
    if images ~= grad then free(images) end
    if #node.input_shape == 3 then return columns end
    local dx = core.view(columns, node.input_shape)
    free(columns)
    return dx
  end,
}

--- fp8.fold(x, output_size, kernel_size [, {dilation = 1, padding = 0, stride = 1}]): the sum of patches as images,
-- nn.functional.fold: what unfold's derivative does. x is (images, channels · kernel sides, patches), f32, f16 or bf16,
-- with or without images.
--   fp8.fold(fp8.ones(4, 4), {3, 3}, 2) --> {{{1, 2, 1}, {2, 4, 2}, {1, 2, 1}}}
function unfold.fold(x, output_size, kernel, ...)
  check.tensor("fold", 1, x)
  local rank = core.rank(x)
  if rank ~= 2 and rank ~= 3 then
    raise("fold: the input must be (images, channels * kernel sides, patches), with or without images")
  end
  local sizes = window.pair("fold", "the output size", output_size, 2, 1)
  local numbers = read_window("fold", kernel, ...)
  local length = size(x, -2)
  local channels = length / (numbers[1] * numbers[2])
  if channels ~= math.floor(channels) then
    raise(("fold: %d elements of a patch are no multiple of %d, the kernel's"):format(length, numbers[1] * numbers[2]))
  end
  local height, width = window.outputs("fold", numbers, sizes[1], sizes[2])
  if size(x, -1) ~= height * width then
    raise(("fold: an output of (%d, %d) has %d patches, got %d"):format(sizes[1], sizes[2], height * width,
      size(x, -1)))
  end
  if not computable[core.dtype(x)] then
    raise("fold: the input must be f32, f16 or bf16, got " .. core.dtype(x))
  end
  local columns = rank == 3 and x or core.unsqueeze(x, 1)
  local images = {size(columns, 1), channels, sizes[1], sizes[2]}
  local y = core.fold_patches(columns, images, unpack(numbers))
  if columns ~= x then free(columns) end
  if rank == 2 then
    local alone = core.view(y, {channels, sizes[1], sizes[2]})
    free(y)
    y = alone
  end
  if needs_grad(x) then
    local node = record(y, folding, {x})
    node.window, node.input_shape = numbers, shape_of(x)
  end
  return y
end

local by_rows = {
  name = "unfold",
  backward = function(node, grad)
    local sizes = node.images
    local rows = core.contiguous(grad)
    local length = size(rows, -1)
    local per_image = core.view(rows, {sizes[1], node.patches, length})
    local columns = core.transpose(per_image, 2, 3)
    local images = core.fold_patches(columns, sizes, unpack(node.window))
    free(columns)
    free(per_image)
    if rows ~= grad then free(rows) end
    return images
  end,
}

--- The patches of x (images, channels, height, width) as rows (images · patches, channels · kernel sides), for linear
-- layers; and how many patches an image has.
-- @param numbers as window.numbers gives them
function unfold.rows(x, numbers)
  local images = core.unfold_patches(x, true, unpack(numbers))
  local patches_of_image, length = size(images, 2), size(images, 3)
  local y = core.view(images, {size(x, 1) * patches_of_image, length})
  free(images)
  if needs_grad(x) then
    local node = record(y, by_rows, {x})
    node.images, node.window, node.patches = shape_of(x), numbers, patches_of_image
  end
  return y, patches_of_image
end

return unfold

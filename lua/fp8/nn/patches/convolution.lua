--- Convolutions as modules.
local apply_linear = require "fp8.linear.apply"
local arguments = require "fp8.nn.arguments"
local contiguous = require("fp8.ops.copy").contiguous
local convolution = require "fp8.ops.patches.convolution"
local core = require "fp8.core"
local pad = require("fp8.ops.patches.pad").pad
local product_layer = require "fp8.nn.product_layer"
local rows_of = require("fp8.ops.patches.unfold").rows
local view = require "fp8.ops.view"
local whole = require("fp8.ops.check").whole
local window = require "fp8.ops.patches.window"

local raise = core.raise

local names = {"stride", "padding", "dilation", "groups", "bias", "padding_mode"}
local known = {stride = true, padding = true, dilation = true, groups = "number", padding_mode = "string"}
for option, kind in pairs(product_layer.known_options) do known[option] = kind end

local Convolution = product_layer.ProductLayer:extend("Convolution")
Convolution.unsearched = {
  recipe = true, plan = true, state = true, kernel_size = true, stride = true, padding = true, dilation = true,
  window = true, pads = true,
}

-- A window without padding, and what is to be added to the input: {left, right, top, bottom} or fewer.
local function pad_before(numbers, dimensions)
  local inner = {unpack(numbers)}
  for i = 7, 10 do inner[i] = 0 end
  local pads = {numbers[8], numbers[10]}
  if dimensions == 2 then pads[3], pads[4] = numbers[7], numbers[9] end
  return inner, pads
end

function Convolution:init(in_channels, out_channels, kernel_size, ...)
  local name, dimensions = self.class_name, self.dimensions
  arguments.check_size(name, "in_channels", in_channels)
  arguments.check_size(name, "out_channels", out_channels)
  local options = window.named(name, names, known, ...)
  local groups = whole(name, "groups", options.groups == nil and 1 or options.groups, 1)
  if in_channels % groups ~= 0 or out_channels % groups ~= 0 then
    raise(("%s: %d channels and %d outputs are no multiples of %d groups"):format(name, in_channels, out_channels,
      groups))
  end
  local sides = window.pair(name, "kernel_size", kernel_size, dimensions, 1, 1)
  self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
  self.kernel_size, self.stride, self.padding = kernel_size, options.stride or 1, options.padding or 0
  self.dilation, self.padding_mode = options.dilation or 1, options.padding_mode or "zeros"
  self.window = convolution.window(name, dimensions, sides, options)
  local modes = {zeros = true, reflect = true, replicate = true, circular = true}
  if not modes[self.padding_mode] then
    raise(("%s: padding_mode must be zeros, reflect, replicate or circular, got %s"):format(name, self.padding_mode))
  end
  if self.padding_mode ~= "zeros" then self.window, self.pads = pad_before(self.window, dimensions) end
  local shape = {out_channels, in_channels / groups, sides[1], sides[2]}
  if dimensions == 1 then table.remove(shape, 3) end
  self:make(in_channels / groups * sides[1] * sides[2], out_channels, shape, options)
  if self.recipe and groups > 1 then
    raise(("%s: a recipe is for convolutions of one group, this one has %d"):format(name, groups))
  end
end

function Convolution:takes_recipes() return self.groups == 1 end

-- A linear layer of the patches, as rows.
local function of_patches(self, x)
  convolution.check(self.class_name, x, self.weight, self.bias, self.dimensions, 1)
  local shape, rank = core.shape(x), core.rank(x)
  local height, width = self.dimensions == 2 and shape[rank - 1] or 1, shape[rank]
  local images = rank == self.dimensions + 2 and shape[1] or 1
  local sizes = {window.outputs(self.class_name, self.window, height, width)}
  local rows = rows_of(view.reshape(x, images, self.in_channels, height, width), self.window)
  local weight = view.reshape(self.weight, self.out_channels, self.in_features)
  local y = apply_linear(rows, weight, self.bias, self.plan, self.state)
  y = view.transpose(view.view(y, images, sizes[1] * sizes[2], self.out_channels), 2, 3)
  if self.dimensions == 1 then table.remove(sizes, 1) end
  table.insert(sizes, 1, self.out_channels)
  if rank == self.dimensions + 2 then table.insert(sizes, 1, images) end
  return view.view(contiguous(y), sizes)
end

function Convolution:forward(x, ...)
  arguments.check_one(self, "one input", ...)
  local state = self.state
  state.training = self.training
  if self.pads then
    window.check_images(self.class_name, x, self.dimensions)
    x = pad(x, self.pads, self.padding_mode)
  end
  if self.groups == 1 and (self.plan or state.observer) then return of_patches(self, x) end
  return convolution.apply(self.class_name, x, self.weight, self.bias, self.dimensions, self.groups, self.window)
end

local function text_of(value)
  return type(value) == "table" and ("{%s}"):format(table.concat(value, ", ")) or tostring(value)
end

function Convolution:description()
  local parts = {("%d, %d, %s"):format(self.in_channels, self.out_channels, text_of(self.kernel_size))}
  for name, usual in pairs {stride = "1", padding = "0", dilation = "1", groups = "1", padding_mode = "zeros"} do
    local text = text_of(self[name])
    if text ~= usual then parts[#parts + 1] = ("%s = %s"):format(name, text) end
  end
  table.sort(parts)
  parts[#parts + 1] = not self.bias and "bias = false" or nil
  parts[#parts + 1] = self.recipe and "recipe: " .. self.recipe_text(self.recipe) or nil
  return table.concat(parts, ", ")
end

--- fp8.nn.Conv2d(in_channels, out_channels, kernel_size [, options]): fp8.conv2d with a weight (out_channels,
-- in_channels / groups, kernel height, kernel width) and a bias, both uniform in ±1 / √(in_channels / groups · kernel
-- sides) to start from, PyTorch's default. With a recipe it is a linear layer of patches, in_channels · kernel sides
-- features each, of which the recipe's blocks and rows are; fp8.convert reaches it too. 16-bit inputs may meet f32
-- weights. Of its own patches a layer with a recipe keeps what that keeps of an input; fp8.recompute makes them again.
-- While fp8.watch looks at a layer without a recipe, that is computed as a linear layer of patches, too: the same but
-- for the order of sums.
--   fp8.nn.Conv2d(3, 16, 3, {stride = 2, padding = 1, recipe = "mixed"})(fp8.randn(2, 3, 8, 8)).shape --> {2, 16, 4, 4}
-- @param options in PyTorch's order without names, or in a table at the end:
--   stride (1), padding (0; numbers, "same" or "valid"), dilation (1), groups (1; only one with a recipe), bias (true),
--   padding_mode ("zeros", "reflect", "replicate" or "circular"); sizes are numbers or lists {height, width}
--   dtype, device, recipe and the fields of a recipe as for fp8.Linear
local Conv2d = Convolution:extend("Conv2d")
Conv2d.dimensions = 2

--- fp8.nn.Conv1d(in_channels, out_channels, kernel_size [, options]): the same of (images, channels, length), as
-- fp8.conv1d.
--   fp8.nn.Conv1d(3, 16, 5)(fp8.randn(2, 3, 12)).shape --> {2, 16, 8}
local Conv1d = Convolution:extend("Conv1d")
Conv1d.dimensions = 1

return {Conv1d = Conv1d, Conv2d = Conv2d}

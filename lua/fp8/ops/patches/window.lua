--- The arguments of functions with windows, in PyTorch's order or by name: max_pool2d(x, 3, 2) or max_pool2d(x, 3,
-- {stride = 2}); and images as the core takes them.
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local is_whole = require "fp8.is_whole"
local list_length = require "fp8.list_length"
local shape_text = require("fp8.shapes").text

local raise, rank_of, shape_of = core.raise, core.rank, core.shape

local window = {}

local largest = 2 ^ 29 - 1

--- Values by name: those that are given in the order of `names`, of which the last may be a table of named ones.
-- @param known as check_options takes it
function window.named(name, names, known, ...)
  local options, count = {}, select("#", ...)
  for i = 1, count do
    local value = select(i, ...)
    if type(value) == "table" and value[1] == nil then
      if i < count then raise(("%s: a table of options has to be the last argument"):format(name)) end
      for option, given in next, check_options(name, value, known) do
        if options[option] ~= nil then raise(("%s: option %s is given twice"):format(name, option)) end
        options[option] = given
      end
    elseif value ~= nil then
      if not names[i] then raise(("%s: %d arguments too many"):format(name, count - #names)) end
      options[names[i]] = value
    end
  end
  return check_options(name, options, known)
end

jit.off(window.named) -- nn/module.lua says why

local function check_whole(name, what, value, least)
  if not is_whole(value, least) or value > largest then
    raise(("%s: %s must be a whole number from %d on, or a list of them, got %s"):format(name, what, least,
      tostring(value)))
  end
  return value
end

--- A whole number or a list of one for each of `dimensions` (1 or 2), as a pair for height and width; `single` is what
-- a height of 1 has.
function window.pair(name, what, value, dimensions, least, single)
  if type(value) ~= "table" then
    check_whole(name, what, value, least)
    return dimensions == 1 and {single, value} or {value, value}
  end
  if list_length(("%s: %s"):format(name, what), value) ~= dimensions then
    raise(("%s: %s must be a number or a list of %d, got %d"):format(name, what, dimensions, #value))
  end
  for i = 1, dimensions do check_whole(name, what, value[i], least) end
  return dimensions == 1 and {single, value[1]} or {value[1], value[2]}
end

--- The ten numbers of a window as the core takes them: pairs of kernel, stride, dilation, padding before and after.
function window.numbers(kernel, stride, dilation, before, after)
  return {
    kernel[1], kernel[2], stride[1], stride[2], dilation[1], dilation[2], before[1], before[2],
    (after or before)[1], (after or before)[2],
  }
end

local function outputs(name, numbers, i, size, may_end_outside)
  local length, padding = (numbers[i] - 1) * numbers[i + 4] + 1, numbers[i + 6] + numbers[i + 8]
  if length > size + padding + (may_end_outside and numbers[i + 2] - 1 or 0) then
    raise(("%s: a kernel that spans %d positions does not fit a size of %d with a padding of %d"):format(name, length,
      size, padding))
  end
  return math.floor((size + padding - length) / numbers[i + 2]) + 1
end

--- How many windows such numbers make of a height and a width; an error if the kernel fits in nowhere.
-- @param may_end_outside whether a last window may, which does not count
function window.outputs(name, numbers, height, width, may_end_outside)
  return outputs(name, numbers, 1, height, may_end_outside), outputs(name, numbers, 2, width, may_end_outside)
end

--- Fails unless x has `dimensions` (1 or 2) after the channels, and one before them or none.
function window.check_images(name, x, dimensions)
  if not core.is_tensor(x) then raise(("%s: argument 1: tensor expected, got %s"):format(name, type(x))) end
  local rank = rank_of(x)
  if rank ~= dimensions + 2 and rank ~= dimensions + 1 then
    raise(("%s: the input must be %s, with or without images, got shape %s"):format(name,
      dimensions == 1 and "(images, channels, length)" or "(images, channels, height, width)",
      shape_text(shape_of(x))))
  end
end

--- x as (images, channels, height, width): a view that is not recorded, or x itself.
function window.as_images(x, dimensions)
  local rank = rank_of(x)
  if rank == 4 and dimensions == 2 then return x end
  local shape = shape_of(x)
  if dimensions == 1 then table.insert(shape, rank, 1) end
  if rank == dimensions + 1 then table.insert(shape, 1, 1) end
  local whole = core.contiguous(x)
  local images = core.view(whole, shape)
  if whole ~= x then core.free(whole) end
  return images
end

--- A result (images, channels, height, width), which nothing else has, in the form that x has.
function window.like(x, result, dimensions)
  local rank = rank_of(x)
  if rank == 4 and dimensions == 2 then return result end
  local shape = shape_of(result)
  if dimensions == 1 then table.remove(shape, 3) end
  if rank == dimensions + 1 then table.remove(shape, 1) end
  local y = core.view(result, shape)
  core.free(result)
  return y
end

return window

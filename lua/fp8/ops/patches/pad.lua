--- Padding, in PyTorch's order: pairs of the numbers before and after, of the last dimension first.
local autograd = require "fp8.autograd"
local check = require "fp8.ops.check"
local copy = require "fp8.ops.copy"
local core = require "fp8.core"
local index_select = require("fp8.ops.index").index_select

local needs_grad, raise, record = autograd.needs_grad, core.raise, autograd.record

-- Where the elements of a padded dimension come from, given their positions as if there were more of it: i64 tensors
-- that count from 0.
local source_of = {
  reflect = function(positions, size)
    return core.sub(size - 1, core.abs(core.sub(core.abs(positions), size - 1)))
  end,
  replicate = function(positions, size) return core.clamp(positions, 0, size - 1) end,
  circular = core.remainder,
}

-- The part of the padded tensor that holds elements of x, or of x that the padded one holds: negative numbers cut off.
local function inside(tensor, amounts, sign)
  local part = tensor
  for dimension, pair in pairs(amounts) do
    local before, after = math.max(sign * pair[1], 0), math.max(sign * pair[2], 0)
    part = core.narrow(part, dimension, before + 1, core.size(part, dimension) - before - after)
  end
  return part
end

local padding = {
  name = "pad",
  backward = function(node, grad)
    local dx = core.zeros(node.input_shape, {dtype = core.dtype(grad), device = core.device(grad)})
    core.copy_(inside(dx, node.amounts, -1), inside(grad, node.amounts, 1))
    return dx
  end,
}

local function pad_constant(x, amounts, value)
  local shape = core.shape(x)
  for dimension, pair in pairs(amounts) do
    shape[dimension] = shape[dimension] + pair[1] + pair[2]
    if shape[dimension] < 0 then
      raise(("pad: %d and %d take more from dimension %d than its %d positions"):format(pair[1], pair[2], dimension,
        core.size(x, dimension)))
    end
  end
  local y = core.full(shape, value, {dtype = core.dtype(x), device = core.device(x)})
  core.copy_(inside(y, amounts, 1), inside(x, amounts, -1))
  if needs_grad(x) then
    local node = record(y, padding, {x})
    node.amounts, node.input_shape = amounts, core.shape(x)
  end
  return y
end

-- The largest numbers that a mode takes of a dimension.
local function most_of(mode, size)
  if mode == "reflect" then return size - 1 end
  if mode == "circular" then return size end
  return size > 0 and math.huge or 0
end

local function pad_dimension(x, dimension, pair, mode)
  local size = core.size(x, dimension)
  for i = 1, 2 do
    if pair[i] > most_of(mode, size) then
      raise(("pad: %d %s a dimension of %d positions is too much for mode %s"):format(pair[i],
        i == 1 and "before" or "after", size, mode))
    end
  end
  if size + pair[1] + pair[2] < 0 then
    raise(("pad: %d and %d take more from dimension %d than its %d positions"):format(pair[1], pair[2], dimension,
      size))
  end
  local positions = core.arange(-pair[1], size + pair[2], 1, {dtype = "i64", device = core.device(x)})
  return index_select(x, dimension, source_of[mode](positions, size))
end

local pad = {}

--- x:pad(amounts [, mode [, value]]): with elements before and after those of the last dimensions: {left, right, top,
-- bottom, …}, the last dimension first, as nn.functional.pad has it. Negative amounts cut off.
-- @param mode "constant" (`value`, 0 if left out); "reflect" (from the ends without these, at most size - 1 of them),
--   "replicate" (the ends) or "circular" (from the other end, at most size), for dimensions of any number here
--   fp8.tensor({1, 2, 3}):pad({1, 2}) --> {0, 1, 2, 3, 0, 0}
--   fp8.tensor({1, 2, 3}):pad({2, 1}, "reflect") --> {3, 2, 1, 2, 3, 2}
--   fp8.tensor({1, 2, 3}):pad({2, 1}, "replicate") --> {1, 1, 1, 2, 3, 3}
--   fp8.tensor({1, 2, 3}):pad({-1, 2}, "circular") --> {2, 3, 1, 2}
function pad.pad(x, amounts, mode, value)
  check.tensor("pad", 1, x)
  if type(amounts) ~= "table" then raise("pad: a list of numbers expected, got " .. type(amounts)) end
  local list, rank = check.list("pad", "the amounts", amounts), core.rank(x)
  if #list % 2 ~= 0 or #list > 2 * rank then
    raise(("pad: %d amounts are no pairs for up to %d dimensions"):format(#list, rank))
  end
  mode = mode == nil and "constant" or mode
  if mode ~= "constant" and not source_of[mode] then
    raise("pad: mode must be constant, reflect, replicate or circular, got " .. tostring(mode))
  end
  if mode ~= "constant" and value ~= nil then raise(("pad: mode %s takes no value"):format(mode)) end
  local by_dimension = {}
  for i = 1, #list, 2 do
    local before = check.whole("pad", "an amount", list[i], -2 ^ 53)
    local after = check.whole("pad", "an amount", list[i + 1], -2 ^ 53)
    if before ~= 0 or after ~= 0 then by_dimension[rank - (i - 1) / 2] = {before, after} end
  end
  if next(by_dimension) == nil then return copy.clone(x) end
  if mode == "constant" then return pad_constant(x, by_dimension, value or 0) end
  local y = x
  for dimension = rank, 1, -1 do
    if by_dimension[dimension] then y = pad_dimension(y, dimension, by_dimension[dimension], mode) end
  end
  return y
end

jit.off(inside)
jit.off(pad_constant) -- nn/module.lua says why

return pad

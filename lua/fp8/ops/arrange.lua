--- Tensors cut into pieces, repeated, turned round and rearranged. What is not called a view has memory of its own.
local autograd = require "fp8.autograd"
local check = require "fp8.ops.check"
local copy = require "fp8.ops.copy"
local core = require "fp8.core"
local join = require "fp8.ops.join"
local view = require "fp8.ops.view"

local needs_grad, raise, record = autograd.needs_grad, core.raise, autograd.record

local arrange = {}

local function pieces(x, dimension, sizes)
  local list, start = {}, 1
  for i, size in ipairs(sizes) do
    list[i] = view.narrow(x, dimension, start, size)
    start = start + size
  end
  return list
end

-- So many elements in pieces of `size`, of which the last may be shorter.
local function equal_sizes(count, size)
  local sizes = {}
  for start = 0, count - 1, size do sizes[#sizes + 1] = math.min(size, count - start) end
  if count == 0 then sizes[1] = 0 end
  return sizes
end

--- x:chunk(count [, dim]): a list of at most `count` views of one size, of which the last may be shorter, along a
-- dimension (1 if left out).
--   fp8.arange(5):chunk(2) --> {{0, 1, 2}, {3, 4}}
function arrange.chunk(x, count, dimension)
  dimension = check.dimension("chunk", x, dimension or 1)
  check.whole("chunk", "the number of chunks", count, 1)
  local length = core.size(x, dimension)
  return pieces(x, dimension, equal_sizes(length, math.max(math.ceil(length / count), 1)))
end

--- x:split(size [, dim]): a list of views of `size` positions, of which the last may be shorter, along a dimension (1
-- if left out); `size` may be a list of sizes, which must add up.
--   fp8.arange(5):split(2) --> {{0, 1}, {2, 3}, {4}}
--   fp8.arange(5):split({1, 4}) --> {{0}, {1, 2, 3, 4}}
function arrange.split(x, size, dimension)
  dimension = check.dimension("split", x, dimension or 1)
  local length = core.size(x, dimension)
  if type(size) ~= "table" then
    check.whole("split", "the size", size, 1)
    return pieces(x, dimension, equal_sizes(length, size))
  end
  local total = 0
  for _, part in ipairs(check.list("split", "the sizes", size)) do
    total = total + check.whole("split", "a size", part, 0)
  end
  if total ~= length then raise(("split: the sizes add up to %.14g, the dimension has %d"):format(total, length)) end
  return pieces(x, dimension, size)
end

--- x:unbind([dim]): a list of views, one a position of a dimension (1 if left out), which goes away.
--   fp8.tensor({{1, 2}, {3, 4}}):unbind(2) --> {{1, 3}, {2, 4}}
function arrange.unbind(x, dimension)
  dimension = check.dimension("unbind", x, dimension or 1)
  local list = {}
  for i = 1, core.size(x, dimension) do list[i] = view.select(x, dimension, i) end
  return list
end

--- x:movedim(source, destination): with a dimension, or each of a list, moved to another place; the others keep their
-- order. A view.
--   fp8.ones(2, 3, 4):movedim(1, -1).shape --> {3, 4, 2}
function arrange.movedim(x, source, destination)
  check.tensor("movedim", 1, x)
  local from, to = check.list("movedim", "the source", source), check.list("movedim", "the destination", destination)
  if #from ~= #to then raise(("movedim: %d dimensions to %d places"):format(#from, #to)) end
  local order, moved = {}, {}
  for i = 1, #from do
    local dimension, place = check.dimension("movedim", x, from[i]), check.dimension("movedim", x, to[i])
    if moved[dimension] or order[place] then raise "movedim: a dimension or a place is given twice" end
    order[place], moved[dimension] = dimension, true
  end
  local next_place = 1
  for dimension = 1, core.rank(x) do
    if not moved[dimension] then
      while order[next_place] do next_place = next_place + 1 end
      order[next_place] = dimension
    end
  end
  return #order == 0 and view.view(x, {}) or view.permute(x, order)
end

--- x:moveaxis(source, destination): x:movedim.
--   fp8.ones(2, 3, 4):moveaxis(1, -1).shape --> {3, 4, 2}
arrange.moveaxis = arrange.movedim

--- x:swapaxes(dim, other), x:swapdims(dim, other): two dimensions exchanged, as x:transpose.
--   fp8.ones(2, 3, 4):swapaxes(1, 3).shape --> {4, 3, 2}
--   fp8.ones(2, 3, 4):swapdims(1, 3).shape --> {4, 3, 2}
arrange.swapaxes, arrange.swapdims = view.transpose, view.transpose

-- A dimension repeated.
local function repeated(x, dimension, times)
  local shape, before = core.shape(x), 1
  for i = 1, dimension - 1 do before = before * shape[i] end
  local rest = before == 0 and 0 or core.numel(x) / before
  local rows = view.expand(view.reshape(x, before, 1, rest), before, times, rest)
  shape[dimension] = shape[dimension] * times
  return view.reshape(copy.contiguous(rows), shape)
end

--- x:tile(times…) or x:tile{times…}: x repeated so many times along each dimension, those counted from the last; more
-- numbers than dimensions add leading ones. (PyTorch's repeat, whose name is a word of Lua.)
--   fp8.tensor({1, 2}):tile(2) --> {1, 2, 1, 2}
--   fp8.tensor({1, 2}):tile(2, 1) --> {{1, 2}, {1, 2}}
function arrange.tile(x, ...)
  check.tensor("tile", 1, x)
  local times = check.list("tile", "the numbers", ...)
  for _, count in ipairs(times) do check.whole("tile", "a number of times", count, 0) end
  local shape = core.shape(x)
  while #shape < #times do table.insert(shape, 1, 1) end
  local y = view.reshape(x, shape)
  local start = y
  for i, count in ipairs(times) do
    if count ~= 1 then y = repeated(y, #shape - #times + i, count) end
  end
  return y == start and copy.clone(y) or y
end

--- x:repeat_interleave(times [, dim]): each position of a dimension repeated so many times, one after the other;
-- without dim the elements are taken in a row.
--   fp8.tensor({1, 2}):repeat_interleave(2) --> {1, 1, 2, 2}
function arrange.repeat_interleave(x, times, dimension)
  check.tensor("repeat_interleave", 1, x)
  check.whole("repeat_interleave", "the number of times", times, 0)
  if dimension == nil then x, dimension = view.reshape(x, -1), 1 end
  dimension = check.dimension("repeat_interleave", x, dimension)
  local shape = core.shape(x)
  local wide = {unpack(shape)}
  table.insert(wide, dimension + 1, times)
  shape[dimension] = shape[dimension] * times
  return view.reshape(copy.contiguous(view.expand(view.unsqueeze(x, dimension + 1), wide)), shape)
end

local function reversed(x, dimensions)
  for _, dimension in ipairs(dimensions) do
    local last = core.size(x, dimension) - 1
    x = core.index_select(x, dimension, core.arange(last, -1, -1, {dtype = "i64", device = core.device(x)}))
  end
  return x
end

local flipping = {name = "flip", backward = function(node, grad) return reversed(grad, node.dimensions) end}

--- x:flip(dims…) or x:flip{dims…}: the order of positions of these dimensions reversed.
--   fp8.tensor({{1, 2}, {3, 4}}):flip(2) --> {{2, 1}, {4, 3}}
function arrange.flip(x, ...)
  check.tensor("flip", 1, x)
  local dimensions, seen = {}, {}
  for i, dimension in ipairs(check.list("flip", "the dimensions", ...)) do
    dimensions[i] = check.dimension("flip", x, dimension)
    if seen[dimensions[i]] then raise(("flip: dimension %d is given twice"):format(dimension)) end
    seen[dimensions[i]] = true
  end
  if #dimensions == 0 then return copy.clone(x) end
  local y = reversed(x, dimensions)
  if needs_grad(x) then record(y, flipping, {x}).dimensions = dimensions end
  return y
end

local function rolled(x, shift, dimension)
  local length = core.size(x, dimension)
  check.whole("roll", "a shift", shift, -2 ^ 53)
  local start = length > 0 and (-shift) % length or 0
  if start == 0 then return copy.clone(x) end
  return join.cat({
    view.narrow(x, dimension, start + 1, length - start), view.narrow(x, dimension, 1, start),
  }, dimension)
end

--- x:roll(shifts [, dims]): positions moved on by `shift`, those that leave at the end come in at the start; a number
-- for one dimension, or lists. Without dims the elements are taken in a row.
--   fp8.arange(4):roll(1) --> {3, 0, 1, 2}
--   fp8.tensor({{1, 2}, {3, 4}}):roll(1, 1) --> {{3, 4}, {1, 2}}
function arrange.roll(x, shifts, dimensions)
  check.tensor("roll", 1, x)
  if dimensions == nil then
    return view.reshape(rolled(view.reshape(x, -1), shifts, 1), core.shape(x))
  end
  shifts, dimensions = check.list("roll", "the shifts", shifts), check.list("roll", "the dimensions", dimensions)
  if #shifts ~= #dimensions then raise(("roll: %d shifts of %d dimensions"):format(#shifts, #dimensions)) end
  local y = x
  for i = 1, #shifts do y = rolled(y, shifts[i], check.dimension("roll", x, dimensions[i])) end
  return y == x and copy.clone(x) or y
end

return arrange

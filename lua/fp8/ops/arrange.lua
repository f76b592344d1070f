--- Tensors cut into pieces, repeated, turned round and rearranged. What is not called a view has memory of its own.
local autograd = require "fp8.autograd"
local check = require "fp8.ops.check"
local copy = require "fp8.ops.copy"
local core = require "fp8.core"
local join = require "fp8.ops.join"
local shape_text = require("fp8.shapes").text
local view = require "fp8.ops.view"

local needs_grad, raise, record = autograd.needs_grad, core.raise, autograd.record

local arrange = {}

local most_parts = 2 ^ 16

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

-- Raises an error for more parts of nothing than anybody wants.
local function check_parts(name, what, count, length)
  if count > math.max(length, most_parts) then
    raise(("%s: %s can be up to %d of a dimension of %d, got %.14g"):format(name, what, math.max(length, most_parts),
      length, count))
  end
end

-- PyTorch has as many chunks of nothing as were asked for.
local function chunk_sizes(length, count)
  if length > 0 then return equal_sizes(length, math.ceil(length / count)) end
  local sizes = {}
  for i = 1, count do sizes[i] = 0 end
  return sizes
end

--- x:chunk(count [, dim]): a list of at most `count` views of one size, of which the last may be shorter, along a
-- dimension (1 if left out).
--   fp8.arange(5):chunk(2) --> {{0, 1, 2}, {3, 4}}
function arrange.chunk(x, count, dimension)
  dimension = check.dimension("chunk", x, dimension or 1)
  check.whole("chunk", "the number of chunks", count, 1)
  local length = core.size(x, dimension)
  if length == 0 then check_parts("chunk", "the number of chunks", count, length) end
  return pieces(x, dimension, chunk_sizes(length, count))
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

--- x:tensor_split(count or positions [, dim]): a list of `count` views along a dimension (1 if left out), of which the
-- first ones have a position more where they can't be of one size; or of views that begin at the start and behind each
-- of a list of so many positions.
--   fp8.arange(5):tensor_split(2) --> {{0, 1, 2}, {3, 4}}
--   fp8.arange(5):tensor_split({1, 4}) --> {{0}, {1, 2, 3}, {4}}
function arrange.tensor_split(x, count, dimension)
  dimension = check.dimension("tensor_split", x, dimension or 1)
  local length, sizes = core.size(x, dimension), {}
  if type(count) == "table" then
    local start = 0
    for i, position in ipairs(check.list("tensor_split", "the positions", count)) do
      check.whole("tensor_split", "a position", position, start)
      position = math.min(position, length)
      sizes[i], start = position - start, position
    end
    sizes[#sizes + 1] = length - start
  else
    check.whole("tensor_split", "the number of parts", count, 1)
    check_parts("tensor_split", "the number of parts", count, length)
    for i = 1, count do sizes[i] = math.floor(length / count) + (i <= length % count and 1 or 0) end
  end
  return pieces(x, dimension, sizes)
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
  if core.rank(x) == 0 then return view.view(arrange.flip(view.view(x, {1}), ...), {}) end
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

--- x:rot90([times [, {dim, other}]]): turned by so many right angles (1 if left out; negative ones the other way) from
-- one dimension towards another, 1 and 2 if they are left out.
--   fp8.tensor({{1, 2}, {3, 4}}):rot90() --> {{2, 4}, {1, 3}}
function arrange.rot90(x, times, dimensions)
  times = check.whole("rot90", "the number of right angles", times or 1, -2 ^ 53) % 4
  local list = check.list("rot90", "the dimensions", dimensions or {1, 2})
  if #list ~= 2 then raise(("rot90: 2 dimensions are needed, got %d"):format(#list)) end
  local first, second = check.dimension("rot90", x, list[1]), check.dimension("rot90", x, list[2])
  if first == second then raise(("rot90: dimension %d is given twice"):format(first)) end
  if times == 0 then return copy.clone(x) end
  if times == 2 then return arrange.flip(x, first, second) end
  if times == 3 then return view.transpose(arrange.flip(x, first), first, second) end
  return view.transpose(arrange.flip(x, second), first, second)
end

--- x:unflatten(dim, sizes): a dimension as several of these sizes, one of which may be -1, as x:reshape.
--   fp8.arange(6):unflatten(1, {2, -1}) --> {{0, 1, 2}, {3, 4, 5}}
function arrange.unflatten(x, dimension, sizes)
  dimension = check.dimension("unflatten", x, dimension)
  local shape, parts = core.shape(x), check.list("unflatten", "the sizes", sizes)
  local length, known, open = table.remove(shape, dimension), 1, nil
  for i, size in ipairs(parts) do
    check.whole("unflatten", "a size", size, -1)
    if size ~= -1 then
      known = known * size
    elseif open then
      raise "unflatten: only one size may be -1"
    else
      open = i
    end
    table.insert(shape, dimension + i - 1, size)
  end
  if open and known > 0 and length % known == 0 then
    shape[dimension + open - 1] = length / known
  elseif open or known ~= length then
    raise(("unflatten: dimension %d has size %d, which is not that of %s"):format(dimension, length,
      shape_text(parts)))
  end
  return view.reshape(x, shape)
end

return arrange

--- Views, and copies that keep the elements in their order.
local operation = require "spec.support.programs.operation"
local origins = require "spec.support.programs.origins"
local tensor = require "spec.support.reference.tensor"

local var, with, without = operation.var, operation.with, operation.without
local dimension, from_first, has_dimension = operation.dimension, operation.from_first, operation.has_dimension

local views = {}

local function copied(x) return operation.new(x.dtype, x.shape, tensor.list(x)) end

local function random_shape(g, count)
  local shape, rest = {}, count
  if count == 0 then return {g.random(3) - 1, 0, unpack(g.random(2) == 1 and {2} or {})} end
  for _ = 1, g.random(4) - 1 do
    local size = g.random(4)
    if rest % size == 0 then
      table.insert(shape, size)
      rest = rest / size
    end
  end
  table.insert(shape, g.random(#shape + 1), rest)
  return shape
end

-- The sizes with one left for fp8 to find out, or not.
local function with_unknown(g, shape)
  if g.random(3) > 1 or #shape == 0 then return shape end
  local d = g.random(#shape)
  return tensor.count(without(shape, d)) > 0 and with(shape, d, -1) or shape
end

local function resolved(x, sizes)
  local known, unknown = 1, nil
  for d, size in ipairs(sizes) do
    if size == -1 then unknown = d else known = known * size end
  end
  return unknown and with(sizes, unknown, tensor.count(x.shape) / known) or sizes
end

views.view = {
  make = function(g, x)
    local shape = random_shape(g, tensor.count(g.tensor(x).shape))
    return tensor.reshaped(g.tensor(x), shape) and {var(x), with_unknown(g, shape)}
  end,
  compute = function(x, sizes) return tensor.reshaped(x, resolved(x, sizes)) end,
}

views.reshape = {
  make = function(g, x) return {var(x), with_unknown(g, random_shape(g, tensor.count(g.tensor(x).shape)))} end,
  compute = function(x, sizes)
    local shape = resolved(x, sizes)
    return tensor.reshaped(x, shape) or operation.new(x.dtype, shape, tensor.list(x))
  end,
}

views.flatten = {
  make = function(g, x)
    local rank = math.max(#g.tensor(x).shape, 1)
    local first = g.random(rank)
    local last = first + g.random(rank - first + 1) - 1
    return g.random(3) == 1 and {var(x)} or {var(x), first, g.random(2) == 1 and last or last - rank - 1}
  end,
  compute = function(x, first, last)
    local rank, shape = #x.shape, {}
    if rank == 0 then return tensor.reshaped(x, {1}) end
    first, last = first or 1, from_first(last or -1, rank)
    for d = 1, first - 1 do table.insert(shape, x.shape[d]) end
    table.insert(shape, tensor.count {unpack(x.shape, first, last)})
    for d = last + 1, rank do table.insert(shape, x.shape[d]) end
    return tensor.reshaped(x, shape) or operation.new(x.dtype, shape, tensor.list(x))
  end,
}

views.squeeze = {
  takes = has_dimension,
  make = function(g, x)
    return g.random(2) == 1 and {var(x)} or {var(x), dimension(g, #g.tensor(x).shape)}
  end,
  compute = function(x, only)
    local shape, stride = {}, {}
    for d, size in ipairs(x.shape) do
      if size ~= 1 or (only and from_first(only, #x.shape) ~= d) then
        table.insert(shape, size)
        table.insert(stride, x.stride[d])
      end
    end
    return tensor.view(x, shape, stride)
  end,
}

views.unsqueeze = {
  takes = function(x) return #x.shape < 6 end,
  make = function(g, x) return {var(x), dimension(g, #g.tensor(x).shape + 1)} end,
  compute = function(x, d)
    local shape, stride = {unpack(x.shape)}, {unpack(x.stride)}
    d = from_first(d, #shape + 1)
    table.insert(shape, d, 1)
    table.insert(stride, d, 1)
    return tensor.view(x, shape, stride)
  end,
}

local function permuted(x, order)
  local shape, stride = {}, {}
  for i, d in ipairs(order) do
    d = from_first(d, #order)
    shape[i], stride[i] = x.shape[d], x.stride[d]
  end
  return tensor.view(x, shape, stride)
end

local function exchanged(x, first, second)
  local order = {}
  for d = 1, #x.shape do order[d] = d end
  first, second = from_first(first, #order), from_first(second, #order)
  order[first], order[second] = second, first
  return permuted(x, order)
end

views.transpose = {
  takes = has_dimension,
  make = function(g, x)
    local rank = #g.tensor(x).shape
    return {var(x), dimension(g, rank), dimension(g, rank)}
  end,
  compute = exchanged,
}

views.t = {
  takes = function(x) return #x.shape <= 2 end,
  make = function(_, x) return {var(x)} end,
  compute = function(x) return #x.shape == 2 and exchanged(x, 1, 2) or tensor.view(x, x.shape, x.stride) end,
}

views.permute = {
  make = function(g, x)
    local order = {}
    for d = 1, #g.tensor(x).shape do
      table.insert(order, g.random(d), g.random(2) == 1 and d or d - #g.tensor(x).shape - 1)
    end
    return {var(x), order}
  end,
  compute = permuted,
}

views.narrow = {
  takes = has_dimension,
  make = function(g, x)
    local shape = g.tensor(x).shape
    local d = g.random(#shape)
    local size = shape[d]
    local start = g.random(size + 1)
    local length = g.random(size - start + 2) - 1
    return {var(x), d, start <= size and g.random(3) == 1 and start - size - 1 or start, length}
  end,
  compute = function(x, d, start, length)
    start = start < 0 and start + x.shape[d] + 1 or start
    return tensor.view(x, with(x.shape, d, length), x.stride, x.offset + (start - 1) * x.stride[d])
  end,
}

-- Without overlaps, which can't be written to.
views.unfold = {
  takes = function(x) return has_dimension(x) and #x.shape < 5 end,
  make = function(g, x)
    local shape = g.tensor(x).shape
    local d = g.random(#shape)
    local length = g.random(shape[d] + 1) - 1
    return {var(x), g.random(2) == 1 and d or d - #shape - 1, length, math.max(length, 1) + g.random(3) - 1}
  end,
  compute = function(x, d, length, step)
    d = from_first(d, #x.shape)
    local shape, stride = with(x.shape, d, math.floor((x.shape[d] - length) / step) + 1), with(x.stride, d, 0)
    stride[d] = x.stride[d] * step
    shape[#shape + 1], stride[#stride + 1] = length, x.stride[d]
    return tensor.view(x, shape, stride, x.offset)
  end,
}

local function selected(x, d, position)
  d = from_first(d, #x.shape)
  position = from_first(position, x.shape[d])
  return tensor.view(x, without(x.shape, d), without(x.stride, d), x.offset + (position - 1) * x.stride[d])
end

local function is_full(x) return #x.shape > 0 and tensor.count(x.shape) > 0 end

views.select = {
  takes = is_full,
  make = function(g, x)
    local shape = g.tensor(x).shape
    local d = dimension(g, #shape)
    return {var(x), d, dimension(g, shape[from_first(d, #shape)])}
  end,
  compute = selected,
}

views.__index = {
  takes = is_full,
  make = function(g, x) return {var(x), dimension(g, g.tensor(x).shape[1])} end,
  text = function(x, position) return x .. "[" .. position .. "]" end,
  compute = function(x, position) return selected(x, 1, position) end,
}

views.expand = {
  make = function(g, x)
    local sizes, own = {}, g.tensor(x).shape
    for d, size in ipairs(own) do
      sizes[d] = size == 1 and g.random(2) == 1 and g.random(4) - 1 or g.random(3) == 1 and -1 or size
    end
    for _ = 1, #own < 4 and g.random(3) - 1 or 0 do table.insert(sizes, 1, g.random(3)) end
    return {var(x), sizes}
  end,
  compute = function(x, sizes)
    local shape, added = {}, #sizes - #x.shape
    for d, size in ipairs(sizes) do shape[d] = size == -1 and x.shape[d - added] or size end
    return tensor.expand(x, shape)
  end,
}

views.contiguous = {
  make = function(_, x) return {var(x)} end,
  compute = function(x) return tensor.is_contiguous(x) and x or copied(x) end,
}

views.clone = {
  make = function(_, x) return {var(x)} end,
  compute = copied,
}

-- What gives a list of views: `position` picks one, and is the argument after the tensor. `count` says how many there
-- are, and `piece` gives one.
local function pieces(name, arguments, count, piece)
  return {
    takes = has_dimension,
    make = function(g, x)
      local own = arguments(g, g.tensor(x).shape)
      local total = count(g.tensor(x), unpack(own, 1, 2))
      return total > 0 and {var(x), g.random(total), own[1], own[2], count = 4} or nil
    end,
    text = function(x, position, ...) return ("%s:%s(%s)[%s]"):format(x, name, table.concat({...}, ", "), position) end,
    compute = piece,
  }
end

local function part(x, d, start, length)
  return tensor.view(x, with(x.shape, d, length), x.stride, x.offset + start * x.stride[d])
end

local function some_dimension(g, shape) return g.random(3) > 1 and dimension(g, #shape) or nil end
local function along(x, d) return from_first(d or 1, #x.shape) end

local function equal_pieces(x, size, d) return math.max(math.ceil(x.shape[d] / size), 1) end
local function equal_piece(x, position, size, d)
  local start = (position - 1) * size
  return part(x, d, start, math.min(size, x.shape[d] - start))
end

local function chunk_size(x, count, d) return math.max(math.ceil(x.shape[d] / count), 1) end

views.chunk = pieces("chunk", function(g, shape) return {g.random(4), some_dimension(g, shape)} end,
  function(x, count, d) return equal_pieces(x, chunk_size(x, count, along(x, d)), along(x, d)) end,
  function(x, position, count, d) return equal_piece(x, position, chunk_size(x, count, along(x, d)), along(x, d)) end)

views.split = pieces("split", function(g, shape)
    local d = some_dimension(g, shape)
    local length = shape[from_first(d or 1, #shape)]
    local first = g.random(length + 1) - 1
    return {g.random(2) == 1 and g.random(4) or {first, length - first}, d}
  end,
  function(x, size, d) return type(size) == "table" and 2 or equal_pieces(x, size, along(x, d)) end,
  function(x, position, size, d)
    if type(size) == "number" then return equal_piece(x, position, size, along(x, d)) end
    return part(x, along(x, d), position == 1 and 0 or size[1], size[position])
  end)

views.unbind = pieces("unbind", function(g, shape) return {some_dimension(g, shape)} end,
  function(x, d) return x.shape[along(x, d)] end,
  function(x, position, d) return selected(x, d or 1, position) end)

views.movedim = {
  takes = has_dimension,
  make = function(g, x)
    local rank = #g.tensor(x).shape
    if g.random(2) == 1 then return {var(x), dimension(g, rank), dimension(g, rank)} end
    local from, to = {}, {}
    for d = 1, rank do
      table.insert(from, g.random(d), d)
      table.insert(to, g.random(d), d - (g.random(2) - 1) * (rank + 1))
    end
    local count = g.random(rank)
    return {var(x), {unpack(from, 1, count)}, {unpack(to, 1, count)}}
  end,
  compute = function(x, from, to)
    if type(from) == "number" then from, to = {from}, {to} end
    local rank, order, moved = #x.shape, {}, {}
    for i, d in ipairs(from) do
      d = from_first(d, rank)
      order[from_first(to[i], rank)], moved[d] = d, true
    end
    local rest = {}
    for d = 1, rank do
      if not moved[d] then table.insert(rest, d) end
    end
    for place = 1, rank do order[place] = order[place] or table.remove(rest, 1) end
    return permuted(x, order)
  end,
}

views.swapaxes = {takes = has_dimension, make = views.transpose.make, compute = exchanged}
views.swapdims = {takes = has_dimension, make = views.transpose.make, compute = exchanged}

for _, view in pairs(views) do view.gradient = origins.gradient_of_first end

-- The grid of a vector beside another one, which is the first argument.
views.meshgrid = {
  first_input = 2,
  takes = function(x) return #x.shape <= 1 and tensor.count(x.shape) <= 10 end,
  make = function(g, x)
    local other = g.any(function(y) return #y.shape <= 1 and tensor.count(y.shape) <= 10 end)
    return {var(other), var(x), g.random(2) == 1, g.random(3) == 1 and "xy" or "ij"}
  end,
  text = function(other, x, is_first, indexing)
    local list = is_first == "true" and {x, other} or {other, x}
    return ("fp8.meshgrid({%s}, %s)[%d]"):format(table.concat(list, ", "), indexing, is_first == "true" and 1 or 2)
  end,
  compute = function(other, x, is_first, indexing)
    local grid = tensor.view(x, {tensor.count(x.shape), tensor.count(other.shape)}, {x.stride[1] or 0, 0})
    return is_first == (indexing == "ij") and grid or exchanged(grid, 1, 2)
  end,
  gradient = function(node, dy)
    local other, x, is_first, indexing = unpack(node.arguments)
    return {nil, origins.gradient(node, dy, {x}, function(numbered)
      return node.operation.compute(other, numbered[1], is_first, indexing)
    end)[1]}
  end,
}

views.detach = {
  make = function(_, x) return {var(x)} end,
  compute = function(x) return tensor.view(x, x.shape, x.stride) end,
}

return views

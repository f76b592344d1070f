--- Repetitions, other orders, triangles and diagonals: always new tensors.
local operation = require "spec.support.programs.operation"
local origins = require "spec.support.programs.origins"
local tensor = require "spec.support.reference.tensor"

local var, from_first = operation.var, operation.from_first

local operations = {}

--- A new tensor of a shape, each element x's at the position that `place` changes {the element's position} to, counted
-- from 0, or 0 if that says false.
local function taken(x, shape, place)
  local list, position = {}, {}
  local zero = tensor.is_integer(x.dtype) and 0LL or 0
  local function walk(d)
    if d > #shape then
      local source = place {unpack(position)}
      local at = x.offset + 1
      for k, index in ipairs(source or {}) do at = at + index * x.stride[k] end
      if source then list[#list + 1] = x.storage[at] else list[#list + 1] = zero end
      return
    end
    for i = 0, shape[d] - 1 do
      position[d] = i
      walk(d + 1)
    end
  end
  walk(1)
  return operation.new(x.dtype, shape, list)
end

--- --- tile ---

-- The shape with leading dimensions of size 1, as many as there are numbers of times.
local function padded(shape, times)
  shape = {unpack(shape)}
  while #shape < #times do table.insert(shape, 1, 1) end
  return shape
end

-- Repeated along one dimension.
local function repeated(x, d, times)
  return taken(x, operation.with(x.shape, d, x.shape[d] * times), function(position)
    position[d] = position[d] % x.shape[d]
    return position
  end)
end

operations.tile = {
  takes = function(x) return #x.shape <= 4 and tensor.count(x.shape) <= 130 end,
  make = function(g, x)
    local times = {}
    for i = 1, g.random(math.min(#g.tensor(x).shape + 1, 3)) do
      times[i] = g.random(20) == 1 and 0 or g.random(2) == 1 and 1 or g.random(3)
    end
    return {var(x), times}
  end,
  compute = function(x, times)
    local y = tensor.new(x.dtype, padded(x.shape, times), tensor.list(x))
    for i, count in ipairs(times) do y = repeated(y, #y.shape - #times + i, count) end
    y.fresh = true
    return y
  end,
  -- Dimension by dimension, with a rounding each.
  gradient = function(node, dy)
    local x, times = unpack(node.arguments)
    local shapes = {padded(x.shape, times)}
    for i, count in ipairs(times) do
      local d = #shapes[1] - #times + i
      shapes[i + 1] = operation.with(shapes[i], d, shapes[i][d] * count)
    end
    for i = #times, 1, -1 do
      if times[i] ~= 1 then
        dy = origins.gradient(node, dy, {{shape = shapes[i]}}, function(numbered)
          return repeated(numbered[1], #shapes[1] - #times + i, times[i])
        end)[1]
      end
    end
    dy.shape = x.shape
    return {dy}
  end,
}

--- --- other orders ---

operations.flip = {
  make = function(g, x)
    local dimensions, rank = {}, #g.tensor(x).shape
    for d = 1, rank do
      local counted = g.random(2) == 1 and d or d - rank - 1
      if g.random(2) == 1 then table.insert(dimensions, g.random(#dimensions + 1), counted) end
    end
    return {var(x), dimensions}
  end,
  compute = function(x, dimensions)
    return taken(x, x.shape, function(position)
      for _, d in ipairs(dimensions) do
        d = from_first(d, #position)
        position[d] = x.shape[d] - 1 - position[d]
      end
      return position
    end)
  end,
}

operations.roll = {
  make = function(g, x)
    local rank = #g.tensor(x).shape
    if rank == 0 or g.random(3) == 1 then return {var(x), g.random(9) - 5} end
    if g.random(2) == 1 then return {var(x), g.random(9) - 5, operation.dimension(g, rank)} end
    return {var(x), {g.random(9) - 5, g.random(9) - 5}, {operation.dimension(g, rank), operation.dimension(g, rank)}}
  end,
  compute = function(x, shifts, dimensions)
    if not dimensions then
      local row = tensor.new(x.dtype, {tensor.count(x.shape)}, tensor.list(x))
      local list = operations.roll.compute(row, shifts, 1).storage
      return operation.new(x.dtype, x.shape, list)
    end
    if type(shifts) == "number" then shifts, dimensions = {shifts}, {dimensions} end
    return taken(x, x.shape, function(position)
      for i, d in ipairs(dimensions) do
        d = from_first(d, #position)
        position[d] = (position[d] - shifts[i]) % x.shape[d]
      end
      return position
    end)
  end,
}

--- --- padding ---

-- Where element `i` of a padded dimension comes from; false for zeros.
local padding = {
  constant = function(i, size) return i >= 0 and i < size and i end,
  reflect = function(i, size) return size - 1 - math.abs(size - 1 - math.abs(i)) end,
  replicate = function(i, size) return math.max(0, math.min(i, size - 1)) end,
  circular = function(i, size) return i % size end,
}

operations.pad = {
  takes = function(x) return #x.shape > 0 end,
  make = function(g, x)
    local shape = g.tensor(x).shape
    local size = shape[#shape]
    local mode = size > 0 and g.pick {"constant", "reflect", "replicate", "circular"} or "constant"
    local most = mode == "reflect" and size - 1 or mode == "circular" and size or 3
    local amounts = {}
    for i = 1, 2 do amounts[i] = g.random(math.min(most, 3) + 1) - 1 end
    if size > 2 and g.random(3) == 1 then amounts[g.random(2)] = -1 end
    if #shape > 1 and mode == "constant" then amounts[3], amounts[4] = g.random(3) - 1, g.random(3) - 1 end
    return {var(x), amounts, mode}
  end,
  compute = function(x, amounts, mode)
    local shape, rank = {unpack(x.shape)}, #x.shape
    for i = 1, #amounts, 2 do
      local d = rank - (i - 1) / 2
      shape[d] = shape[d] + amounts[i] + amounts[i + 1]
    end
    return taken(x, shape, function(position)
      for i = 1, #amounts, 2 do
        local d = rank - (i - 1) / 2
        position[d] = padding[mode](position[d] - amounts[i], x.shape[d])
        if not position[d] then return false end
      end
      return position
    end)
  end,
}

--- --- triangles ---

local function diagonal(g, x) return {var(x), g.random(3) > 1 and g.random(7) - 4 or nil} end

local function triangle(keeps)
  return {
    takes = function(x) return #x.shape >= 2 end,
    make = diagonal,
    compute = function(x, first)
      return taken(x, x.shape, function(position)
        return keeps(position[#position] - position[#position - 1], first or 0) and position
      end)
    end,
  }
end

operations.triu = triangle(function(own, first) return own >= first end)
operations.tril = triangle(function(own, last) return own <= last end)

operations.diag = {
  takes = function(x) return #x.shape == 2 or #x.shape == 1 and x.shape[1] <= 12 end,
  make = diagonal,
  compute = function(x, number)
    number = number or 0
    local right, down = math.max(number, 0), math.max(-number, 0)
    if #x.shape == 2 then
      local count = math.max(math.min(x.shape[1] - down, x.shape[2] - right), 0)
      return taken(x, {count}, function(position) return {position[1] + down, position[1] + right} end)
    end
    local size = x.shape[1] + right + down
    return taken(x, {size, size}, function(position)
      return position[2] - position[1] == number and {position[1] - down}
    end)
  end,
}

for _, name in ipairs {"flip", "roll", "pad", "triu", "tril", "diag"} do
  operations[name].gradient = origins.gradient_of_first
end

return operations

--- Picking from tensors and joining them.
local operation = require "spec.support.programs.operation"
local origins = require "spec.support.programs.origins"
local tensor = require "spec.support.reference.tensor"

local new, map, var = operation.new, operation.map, operation.var

local operations = {}

local function picked_rows(x, d, positions)
  d = operation.from_first(d, #x.shape)
  local parts, list = {}, tensor.list(positions)
  for i, position in ipairs(list) do
    parts[i] = tensor.view(x, operation.with(x.shape, d, 1), x.stride, x.offset + tonumber(position) * x.stride[d])
  end
  return parts, d
end

-- Tensors of one shape but for dimension d, side by side along it.
local function concatenated(parts, d, first)
  local shape = {unpack(first.shape)}
  shape[d] = 0
  for _, part in ipairs(parts) do shape[d] = shape[d] + part.shape[d] end
  local result = new(first.dtype, shape, {})
  local start = 0
  for _, part in ipairs(parts) do
    local place = tensor.view(result, part.shape, result.stride, start * result.stride[d])
    tensor.write(place, tensor.list(part))
    start = start + part.shape[d]
  end
  return result
end

operations.index_select = {
  gradient = origins.gradient_of_first,
  takes = function(x) return #x.shape > 0 end,
  make = function(g, x)
    local shape = g.tensor(x).shape
    local d = g.random(#shape)
    local count = shape[d] > 0 and g.random(4) or 0
    return {var(x), d, var(g.leaf(g.pick {"i64", "i32", "u8"}, {count}, {below = shape[d]}))}
  end,
  compute = function(x, d, positions)
    local parts, first = picked_rows(x, d, positions)
    return concatenated(parts, first, x)
  end,
}

operations.gather = {
  gradient = origins.gradient_of_first,
  takes = function(x) return #x.shape > 0 end,
  make = function(g, x)
    local shape = g.tensor(x).shape
    local d = g.random(#shape)
    local positions = operation.with(shape, d, shape[d] > 0 and g.random(4) - 1 or 0)
    return {var(x), d - (g.random(2) - 1) * (#shape + 1), var(g.leaf(g.pick {"i64", "i32", "u8"}, positions,
      {below = shape[d]}))}
  end,
  compute = function(x, d, positions)
    d = operation.from_first(d, #x.shape)
    local along = tensor.view(x, operation.with(positions.shape, d, positions.shape[d]), operation.with(x.stride, d, 0))
    local list, places = tensor.list(positions), tensor.positions(along)
    return new(x.dtype, positions.shape, map(function(position, place)
      return x.storage[place + tonumber(position) * x.stride[d]]
    end, list, places))
  end,
}

operations.one_hot = {
  text = "function", differentiable = false,
  takes = function(x)
    if operation.is_float(x) or tensor.count(x.shape) == 0 or #x.shape > 4 then return false end
    for _, value in ipairs(tensor.list(x)) do
      if value < 0 or value > 9 then return false end
    end
    return true
  end,
  make = function(g, x)
    local largest = 0
    for _, value in ipairs(tensor.list(g.tensor(x))) do largest = math.max(largest, tonumber(value)) end
    return {var(x), g.random(2) == 1 and largest + g.random(3) or nil}
  end,
  compute = function(x, classes)
    local largest, shape, list = 0, {unpack(x.shape)}, {}
    for _, value in ipairs(tensor.list(x)) do largest = math.max(largest, tonumber(value)) end
    table.insert(shape, classes or largest + 1)
    for _, value in ipairs(tensor.list(x)) do
      for k = 0, shape[#shape] - 1 do table.insert(list, value == k and 1LL or 0LL) end
    end
    return new("i64", shape, list)
  end,
}

operations.embedding = {
  gradient = origins.gradient_of_first, text = "function",
  takes = function(x) return operation.is_computable(x) and #x.shape == 2 and x.shape[1] > 0 end,
  make = function(g, x)
    return {var(x), var(g.leaf(g.pick {"i64", "i32", "u8"}, g.shape(), {below = g.tensor(x).shape[1]}))}
  end,
  compute = function(weight, indices)
    local shape, list = {unpack(indices.shape)}, {}
    table.insert(shape, weight.shape[2])
    for _, row in ipairs(tensor.list(indices)) do
      local place = weight.offset + 1 + tonumber(row) * weight.stride[1]
      for k = 0, weight.shape[2] - 1 do list[#list + 1] = weight.storage[place + k * weight.stride[2]] end
    end
    return new(weight.dtype, shape, list)
  end,
}

local function with_new_dimension(x, d)
  local shape, stride = {unpack(x.shape)}, {unpack(x.stride)}
  table.insert(shape, d, 1)
  table.insert(stride, d, 1)
  return tensor.view(x, shape, stride)
end

-- cat and stack take a list, which is not among the arguments: its tensors are, and the dimension in front of them.
local function join(name)
  local function compute(d, ...)
    local parts = {...}
    local rank = #parts[1].shape + (name == "stack" and 1 or 0)
    d = operation.from_first(d, rank)
    if name == "stack" then
      for i, part in ipairs(parts) do parts[i] = with_new_dimension(part, d) end
    end
    return concatenated(parts, d, parts[1])
  end
  return {
    takes = function(x) return #x.shape < 5 and (name == "stack" or #x.shape > 0) end,
    text = function(d, ...) return ("fp8.%s({%s}, %s)"):format(name, table.concat({...}, ", "), d) end,
    make = function(g, x)
      local own = g.tensor(x)
      local d = operation.dimension(g, #own.shape + (name == "stack" and 1 or 0))
      local arguments = {d, var(x)}
      for _ = 1, g.random(3) - 1 do
        local shape = {unpack(own.shape)}
        if name == "cat" then shape[operation.from_first(d, #shape)] = g.random(3) - 1 end
        local other = g.random(2) == 1 and x or g.leaf(own.dtype, shape, {grad = true})
        table.insert(arguments, g.random(2) == 1 and #arguments + 1 or 2, var(other))
      end
      return arguments
    end,
    compute = compute,
    gradient = function(node, dy)
      local inputs = {unpack(node.arguments, 2)}
      return {nil, unpack(origins.gradient(node, dy, inputs, function(numbered)
        return compute(node.arguments[1], unpack(numbered))
      end))}
    end,
  }
end

operations.cat, operations.stack = join "cat", join "stack"

return operations

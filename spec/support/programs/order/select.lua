--- Choosing elements by their values, and counting them.
local operation = require "spec.support.programs.operation"
local origins = require "spec.support.programs.origins"
local tensor = require "spec.support.reference.tensor"

local new, var = operation.new, operation.var

local operations = {}

-- By the number of an element: its coordinates, from 0.
local function coordinates(shape, number)
  local list = {}
  for d = #shape, 1, -1 do
    list[d], number = number % shape[d], math.floor(number / shape[d])
  end
  return list
end

operations.nonzero = {
  differentiable = false,
  make = function(_, x) return {var(x)} end,
  compute = function(x)
    local list, count = {}, 0
    for i, value in ipairs(tensor.list(x)) do
      if value ~= 0 then
        count = count + 1
        for _, place in ipairs(coordinates(x.shape, i - 1)) do list[#list + 1] = 0LL + place end
      end
    end
    return new("i64", {count, #x.shape}, list)
  end,
}
operations.argwhere = operations.nonzero

operations.count_nonzero = {
  differentiable = false,
  make = function(g, x)
    local rank = #g.tensor(x).shape
    return {var(x), rank > 0 and g.random(2) == 1 and operation.dimension(g, rank) or nil}
  end,
  compute = function(x, d)
    local reduced, list = {}, tensor.list(x)
    for i = 1, #x.shape do reduced[i] = d == nil or operation.from_first(d, #x.shape) == i end
    local rows, shape = operation.rows(x.shape, reduced)
    for i, row in ipairs(rows) do
      local count = 0LL
      for _, position in ipairs(row) do
        if list[position] ~= 0 then count = count + 1 end
      end
      rows[i] = count
    end
    return new("i64", shape, rows)
  end,
}

operations.masked_select = {
  gradient = origins.gradient_of_first,
  make = function(g, x)
    local shape, own = {}, g.tensor(x).shape
    for d = g.random(#own + 1), #own do table.insert(shape, g.random(4) == 1 and 1 or own[d]) end
    return {var(x), var(g.leaf(g.pick {"u8", "u8", "e4m3", "i64"}, shape, {simple = true}))}
  end,
  compute = function(x, mask)
    local shape, list = operation.broadcast(x.shape, mask.shape), {}
    local values = tensor.list(tensor.expand(x, shape))
    for i, chosen in ipairs(tensor.list(tensor.expand(mask, shape))) do
      if chosen ~= 0 then list[#list + 1] = values[i] end
    end
    return new(x.dtype, {#list}, list)
  end,
}

-- Those that differ from the one before; NaN does.
local function without_repeats(dtype, values)
  local list = {}
  for _, value in ipairs(values) do
    if #list == 0 or value ~= list[#list] then list[#list + 1] = value end
  end
  return new(dtype, {#list}, list, true)
end

operations.unique_consecutive = {
  differentiable = false,
  make = function(_, x) return {var(x)} end,
  compute = function(x) return without_repeats(x.dtype, tensor.list(x)) end,
}

operations.unique = {
  differentiable = false,
  make = function(_, x) return {var(x)} end,
  compute = function(x)
    local values, nans = {}, {}
    for _, value in ipairs(tensor.list(x)) do table.insert(value == value and values or nans, value) end
    table.sort(values)
    for _, value in ipairs(nans) do table.insert(values, value) end
    return without_repeats(x.dtype, values)
  end,
}

operations.bincount = {
  differentiable = false,
  takes = function(x)
    if operation.is_float(x) or #x.shape ~= 1 then return false end
    for _, value in ipairs(tensor.list(x)) do
      if value < 0 or value > 99 then return false end
    end
    return true
  end,
  make = function(g, x) return {var(x), nil, g.random(2) == 1 and g.random(9) - 1 or nil} end,
  compute = function(x, _, least)
    local list = {}
    for i = 1, least or 0 do list[i] = 0LL end
    for _, value in ipairs(tensor.list(x)) do
      for i = #list + 1, tonumber(value) + 1 do list[i] = 0LL end
      list[tonumber(value) + 1] = list[tonumber(value) + 1] + 1
    end
    return new("i64", {#list}, list)
  end,
}

return operations

--- Reductions.
local ffi = require "ffi"
local bound = require "spec.support.reference.bound"
local operation = require "spec.support.programs.operation"
local tensor = require "spec.support.reference.tensor"

local new, map, var, at = operation.new, operation.map, operation.var, operation.at
local is_integer, from_first = tensor.is_integer, operation.from_first
local finite = operation.is_finite
local exact, mul, div = bound.exact, bound.mul, bound.div
local int64 = ffi.typeof "int64_t"

local operations = {}

-- The set of dimensions that an argument names.
local function dimension_set(dimensions, rank)
  local set = {}
  if type(dimensions) == "number" then dimensions = {dimensions} end
  for d = 1, dimensions and 0 or rank do set[d] = true end
  for _, d in ipairs(dimensions or {}) do set[from_first(d, rank)] = true end
  return set
end

local function random_dimensions(g, rank)
  if rank == 0 or g.random(3) == 1 then return nil end
  if g.random(2) == 1 then return operation.dimension(g, rank) end
  local list = {}
  for d = 1, rank do
    if g.random(2) == 1 then table.insert(list, g.random(#list + 1), g.random(2) == 1 and d or d - rank - 1) end
  end
  return list
end

-- A sum of floats in any order: NaN and infinities by their own rule, else a bound.
local function float_sum(values, divisor)
  local special = 0
  for _, value in ipairs(values) do
    if not finite(value) then special = special + value end
  end
  if special ~= 0 then return special end
  if #values == 0 then return 0 / divisor end
  local sum = bound.sum(map(exact, values))
  return divisor == 1 and sum or div(sum, exact(divisor))
end

local function integer_sum(values)
  local sum = 0LL
  for _, value in ipairs(values) do sum = sum + value end
  return sum
end

-- The mean of integers, of two sums that stay exact: of their upper and lower 32 bits.
local function integer_mean(values)
  if #values == 0 then return 0 / 0 end
  local high, low = 0, 0
  for _, value in ipairs(values) do
    local upper = tonumber(bit.arshift(value, 32))
    high, low = high + upper, low + tonumber(value - int64(upper) * 0x100000000LL)
  end
  local mean = (high * 2 ^ 32 + low) / #values
  return bound.within(mean, math.abs(mean) * 2 ^ -50)
end

-- The extremum and its first position; NaN is beyond all others.
local function extremum(values, largest)
  local best, position = values[1], 1
  for i = 2, #values do
    local value = values[i]
    local beyond = largest and value > best or not largest and value < best
    if best == best and (beyond or value ~= value) then best, position = value, i end
  end
  return best, position
end

local reducers = {
  sum = function(values, integer) return integer and integer_sum(values) or float_sum(values, 1) end,
  mean = function(values, integer) return integer and integer_mean(values) or float_sum(values, #values) end,
  max = function(values) return (extremum(values, true)) end,
  min = function(values) return (extremum(values, false)) end,
  argmax = function(values)
    local _, position = extremum(values, true)
    return int64(position - 1)
  end,
}

local function reduced_dtype(name, dtype)
  if name == "argmax" then return "i64" end
  if not is_integer(dtype) then return dtype end
  return name == "sum" and "i64" or name == "mean" and "f32" or dtype
end

local function reduced_rows(node)
  local x = node.arguments[1]
  return operation.rows(x.shape, dimension_set(node.arguments[2], #x.shape))
end

-- Gradients of a reduction: f(gradient of the result, the row's elements) gives that of each of them.
local function spread(f)
  return function(node, dy)
    local x = node.arguments[1]
    local list, result = tensor.list(x), {}
    for i, positions in ipairs(reduced_rows(node)) do
      local slopes = f(dy[i], at(list, positions), function(a) return bound.to(node.result.dtype, a) end)
      for k, position in ipairs(positions) do result[position] = slopes[k] end
    end
    result.shape = x.shape
    return {result}
  end
end

local function shares_of(largest)
  return spread(function(g, values, to)
    local best, count = extremum(values, largest), 0
    for _, value in ipairs(values) do count = count + (value == best and 1 or 0) end
    if best ~= best then return map(function() return {0, math.huge} end, values) end
    return map(function(value) return value == best and to(div(g, exact(count))) or exact(0) end, values)
  end)
end

local gradients = {
  sum = spread(function(g, values) return map(function() return g end, values) end),
  mean = spread(function(g, values, to)
    local share = to(mul(g, to(exact(1 / #values))))
    return map(function() return share end, values)
  end),
  max = shares_of(true), min = shares_of(false),
}

for name, reducer in pairs(reducers) do
  operations[name] = {
    differentiable = name ~= "argmax",
    make = function(g, x)
      local shape = g.tensor(x).shape
      local dimensions = random_dimensions(g, #shape)
      if name ~= "sum" and name ~= "mean" then
        for d in pairs(dimension_set(dimensions, #shape)) do
          if shape[d] == 0 then return nil end
        end
      end
      return {var(x), dimensions, g.random(2) == 1 or nil, count = 3}
    end,
    compute = function(x, dimensions, keepdim)
      local rows, without, with = operation.rows(x.shape, dimension_set(dimensions, #x.shape))
      local list, result = tensor.list(x), {}
      for i, positions in ipairs(rows) do result[i] = reducer(at(list, positions), is_integer(x.dtype)) end
      local dtype = reduced_dtype(name, x.dtype)
      return new(dtype, keepdim and with or without, operation.stored(result, dtype), true)
    end,
    gradient = gradients[name],
  }
end

return operations

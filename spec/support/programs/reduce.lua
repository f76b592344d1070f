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

local reduce, operations = {}, {}

-- The set of dimensions that an argument names.
local function dimension_set(dimensions, rank)
  local set = {}
  if type(dimensions) == "number" then dimensions = {dimensions} end
  for d = 1, dimensions and 0 or rank do set[d] = true end
  for _, d in ipairs(dimensions or {}) do set[from_first(d, rank)] = true end
  return set
end

--- A random argument: nil, a dimension or a list of them.
function reduce.random_dimensions(g, rank)
  if rank == 0 or g.random(3) == 1 then return nil end
  if g.random(2) == 1 then return operation.dimension(g, rank) end
  local list = {}
  for d = 1, rank do
    if g.random(2) == 1 then table.insert(list, g.random(#list + 1), g.random(2) == 1 and d or d - rank - 1) end
  end
  return list
end

--- A sum of floats in any order, by a divisor: NaN and infinities by their own rule, else a bound.
function reduce.float_sum(values, divisor)
  local special = 0
  for _, value in ipairs(values) do
    if not finite(value) then special = special + value end
  end
  if special ~= 0 then return special end
  if #values == 0 then return 0 / divisor end
  local sum = bound.sum(map(exact, values))
  return divisor == 1 and sum or div(sum, exact(divisor))
end

local float_sum = reduce.float_sum

local function integer_sum(values)
  local sum = 0LL
  for _, value in ipairs(values) do sum = sum + value end
  return sum
end

local function integer_product(values)
  local product = 1LL
  for _, value in ipairs(values) do product = product * value end
  return product
end

-- A product in double, in any order; anything where an order may leave the range of doubles.
local function float_product(values)
  local product, up, down = 1, 0, 0
  for _, value in ipairs(values) do
    product = product * value
    local magnitude = math.abs(value)
    if magnitude > 1 and magnitude < math.huge then up = up + math.log10(magnitude) end
    if magnitude < 1 and magnitude > 0 then down = down - math.log10(magnitude) end
  end
  if up > 300 or down > 300 then return false end
  if not finite(product) or math.abs(product) > 4e38 then return product end
  return bound.within(product, math.abs(product) * (#values + 1) * 2 ^ -52 + 2 ^ -150)
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

--- The extremum and its first position; NaN is beyond all others.
function reduce.extremum(values, largest)
  local best, position = values[1], 1
  for i = 2, #values do
    local value = values[i]
    local beyond = largest and value > best or not largest and value < best
    if best == best and (beyond or value ~= value) then best, position = value, i end
  end
  return best, position
end

local extremum = reduce.extremum

local reducers = {
  sum = function(values, integer) return integer and integer_sum(values) or float_sum(values, 1) end,
  mean = function(values, integer) return integer and integer_mean(values) or float_sum(values, #values) end,
  max = function(values) return (extremum(values, true)) end,
  min = function(values) return (extremum(values, false)) end,
  argmax = function(values)
    local _, position = extremum(values, true)
    return int64(position - 1)
  end,
  argmin = function(values)
    local _, position = extremum(values, false)
    return int64(position - 1)
  end,
  prod = function(values, integer) return integer and integer_product(values) or float_product(values) end,
}

local is_position = {argmax = true, argmin = true}
-- Of no elements there is a result.
local of_none = {sum = true, mean = true, prod = true}

local function reduced_dtype(name, dtype)
  if is_position[name] then return "i64" end
  if not is_integer(dtype) then return dtype end
  return (name == "sum" or name == "prod") and "i64" or name == "mean" and "f32" or dtype
end

--- Gradients of a reduction: f(gradient of the result, the row's elements, the node, the result's element) gives that
-- of each of them. The dimensions are the second argument, or another one.
function reduce.spread(f, dimensions_at)
  return function(node, dy)
    local x, dimensions = node.arguments[1], node.arguments[dimensions_at or 2]
    local list, result, results = tensor.list(x), {}, tensor.list(node.result)
    for i, positions in ipairs((operation.rows(x.shape, dimension_set(dimensions, #x.shape)))) do
      local slopes = f(dy[i], at(list, positions), node, results[i])
      for k, position in ipairs(positions) do result[position] = slopes[k] end
    end
    result.shape = x.shape
    return {result}
  end
end

--- A reduction to a dtype: f gives a result of a row's elements.
function reduce.reduced(x, dimensions, keepdim, dtype, f)
  local rows, without, with = operation.rows(x.shape, dimension_set(dimensions, #x.shape))
  local list, result = tensor.list(x), {}
  for i, positions in ipairs(rows) do result[i] = f(at(list, positions)) end
  return new(dtype, keepdim and with or without, operation.stored(result, dtype), true)
end

local spread = reduce.spread

--- The shares of g among the elements that are the largest or smallest, with `to` rounding to the dtype.
function reduce.shares(g, values, largest, to)
  local best, count = extremum(values, largest), 0
  for _, value in ipairs(values) do count = count + (value == best and 1 or 0) end
  if best ~= best then return map(function() return {0, math.huge} end, values) end
  return map(function(value) return value == best and to(div(g, exact(count))) or exact(0) end, values)
end

local function shares_of(largest)
  return spread(function(g, values, node)
    return reduce.shares(g, values, largest, operation.rounds_to(node.result.dtype))
  end)
end

local gradients = {
  sum = spread(function(g, values) return map(function() return g end, values) end),
  mean = spread(function(g, values, node)
    local to = operation.rounds_to(node.result.dtype)
    local share = to(mul(g, to(exact(1 / #values))))
    return map(function() return share end, values)
  end),
  max = shares_of(true), min = shares_of(false),
  -- The product of the others: the result divided, where no element is 0; where one is, of those that are not.
  prod = spread(function(g, values, node, result)
    local to, zeros, others = operation.rounds_to(node.result.dtype), 0, {}
    for _, value in ipairs(values) do
      if value == 0 then zeros = zeros + 1 else table.insert(others, value) end
    end
    local product = float_product(others)
    if type(product) ~= "table" then product = {0, math.huge} end
    return map(function(value)
      local slope = exact(0)
      if zeros == 0 then slope = to(div(exact(result), exact(value))) end
      if zeros == 1 and value == 0 then slope = to(product) end
      return finite(value) and to(mul(g, slope)) or {0, math.huge}
    end, values)
  end),
}

--- Whether a reduction is one of no elements.
function reduce.takes_none(shape, dimensions)
  for d in pairs(dimension_set(dimensions, #shape)) do
    if shape[d] == 0 then return true end
  end
  return false
end

for name, reducer in pairs(reducers) do
  operations[name] = {
    differentiable = not is_position[name],
    make = function(g, x)
      local shape = g.tensor(x).shape
      local dimensions = reduce.random_dimensions(g, #shape)
      if not of_none[name] and reduce.takes_none(shape, dimensions) then return nil end
      return {var(x), dimensions, g.random(2) == 1 or nil, count = 3}
    end,
    compute = function(x, dimensions, keepdim)
      return reduce.reduced(x, dimensions, keepdim, reduced_dtype(name, x.dtype), function(values)
        return reducer(values, is_integer(x.dtype))
      end)
    end,
    gradient = gradients[name],
  }
end

reduce.operations = operations

return reduce

--- Sorting, and what it finds.
local ffi = require "ffi"
local operation = require "spec.support.programs.operation"
local origins = require "spec.support.programs.origins"
local tensor = require "spec.support.reference.tensor"

local new, var, at = operation.new, operation.var, operation.at
local int64 = ffi.typeof "int64_t"

local operations = {}

--- The numbers 1 … n of a row's elements in order: NaN last or, descending, first; equal ones as they are.
local function order_of(values, descending)
  local order = {}
  for i = 1, #values do order[i] = i end
  table.sort(order, function(i, j)
    local a, b = values[i], values[j]
    if a == b or a ~= a and b ~= b then return i < j end
    if a ~= a or b ~= b then return (b ~= b) ~= descending end
    if descending then return a > b end
    return a < b
  end)
  return order
end

--- Of each row of x along a dimension the elements that pick(order, values) names, as many as `count`: those of another
-- tensor of x's shape, or where that is false, their positions.
local function picked(x, from, d, descending, count, pick)
  local dimension = operation.from_first(d, #x.shape)
  local result = new(from and from.dtype or "i64", operation.with(x.shape, dimension, count), {})
  local rows = operation.rows(x.shape, {[dimension] = true})
  local places = operation.rows(result.shape, {[dimension] = true})
  local list, elements = tensor.list(x), from and tensor.list(from)
  for r, positions in ipairs(count > 0 and rows or {}) do
    local values = at(list, positions)
    local chosen = pick(order_of(values, descending), values)
    for k, place in ipairs(places[r]) do
      result.storage[place] = from and elements[positions[chosen[k]]] or int64(chosen[k] - 1)
    end
  end
  return result
end

--- An operation. arguments(g, x) are those after x; plan(x, …) says which dimension it takes, whether descending, how
-- many elements, which of them (a function of the order and the values), and whether their dimension goes.
local function sorting(arguments, plan, of_positions)
  local function taken(x, from, ...)
    local d, descending, count, pick, drops = plan(x, ...)
    local y = picked(x, from, d, descending, count, pick or function(order) return order end)
    if not drops then return y end
    return new(y.dtype, operation.without(y.shape, operation.from_first(d, #y.shape)), y.storage)
  end
  return {
    takes = operation.has_dimension, differentiable = not of_positions,
    make = function(g, x)
      local rest = arguments(g, g.tensor(x).shape)
      return rest and {var(x), unpack(rest, 1, 3)}
    end,
    compute = function(x, ...) return taken(x, not of_positions and x, ...) end,
    gradient = function(node, dy)
      local x = node.arguments[1]
      return origins.gradient(node, dy, {x}, function(numbered)
        return taken(x, numbered[1], unpack(node.arguments, 2, 4))
      end)
    end,
  }
end

local function dimension_and_direction(g, shape) return {operation.dimension(g, #shape), g.random(2) == 1} end

local function size_of(x, d) return x.shape[operation.from_first(d, #x.shape)] end

local function all_of(x, d, descending) return d, descending, size_of(x, d) end

operations.sort = sorting(dimension_and_direction, all_of)
operations.argsort = sorting(dimension_and_direction, all_of, true)
operations.msort = sorting(function() return {} end, function(x) return 1, false, x.shape[1] end)

operations.topk = sorting(function(g, shape)
  local d = operation.dimension(g, #shape)
  return {g.random(shape[operation.from_first(d, #shape)] + 1) - 1, d, g.random(2) == 1}
end, function(_, k, d, largest) return d, largest, k end)

local function with_elements(f)
  return function(g, shape)
    local d = operation.dimension(g, #shape)
    local size = shape[operation.from_first(d, #shape)]
    return size > 0 and f(g, d, size) or nil
  end
end

operations.kthvalue = sorting(with_elements(function(g, d, size) return {g.random(size), d, g.random(2) == 1} end),
  function(_, k, d, keepdim)
    return d, false, 1, function(order) return {order[k]} end, not keepdim
  end)

-- The first NaN, where there is one.
local function middle(order, values)
  for i, value in ipairs(values) do
    if value ~= value then return {i} end
  end
  return {order[math.floor((#order + 1) / 2)]}
end

operations.median = sorting(with_elements(function(g, d) return {d, g.random(2) == 1} end), function(_, d, keepdim)
  return d, false, 1, middle, not keepdim
end)

return operations

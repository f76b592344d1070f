--- Running sums and products.
local bound = require "spec.support.reference.bound"
local in_place = require "spec.support.programs.in_place"
local operation = require "spec.support.programs.operation"
local tensor = require "spec.support.reference.tensor"

local new, map, var, at = operation.new, operation.map, operation.var, operation.at
local exact, finite = bound.exact, operation.is_finite

local operations = {}

-- A number known up to a rounding to float32, of terms of so much.
local function about(value, magnitude) return bound.within(value, magnitude * 2 ^ -23 + 2 ^ -150) end

local function sums(values)
  local sum, special, magnitude = 0, 0, 0
  return map(function(value)
    if not finite(value) then special = special + value else sum = sum + value end
    if finite(value) then magnitude = magnitude + math.abs(value) end
    return special ~= 0 and special or about(sum, magnitude)
  end, values)
end

-- Anything where an order may leave the range of doubles.
local function products(values)
  local product, logarithms = 1, 0
  return map(function(value)
    product = product * value
    local magnitude = math.abs(value)
    if finite(value) and value ~= 0 then logarithms = logarithms + math.abs(math.log10(magnitude)) end
    if logarithms > 300 then return false end
    if not finite(product) or math.abs(product) > 4e38 then return product end
    return about(product, math.abs(product))
  end, values)
end

local function integers(start, combine)
  return function(values)
    local result = start
    return map(function(value)
      result = combine(result, value)
      return result
    end, values)
  end
end

local function rows_along(x, d)
  return (operation.rows(x.shape, {[operation.from_first(d, #x.shape)] = true}))
end

-- @param slopes gives the gradients of a row's elements from them and those of its results
local function scan(of_floats, of_integers, slopes)
  return {
    takes = operation.has_dimension,
    make = function(g, x) return {var(x), operation.dimension(g, #g.tensor(x).shape)} end,
    compute = function(x, d)
      local is_float = operation.is_float(x)
      local list, result, dtype = tensor.list(x), {}, is_float and x.dtype or "i64"
      for _, positions in ipairs(rows_along(x, d)) do
        local values = (is_float and of_floats or of_integers)(at(list, positions))
        for k, position in ipairs(positions) do result[position] = values[k] end
      end
      return new(dtype, x.shape, operation.stored(result, dtype), true)
    end,
    gradient = function(node, dy)
      local x, d = unpack(node.arguments)
      local list, result = tensor.list(x), {shape = x.shape}
      for _, positions in ipairs(rows_along(x, d)) do
        local row = slopes(at(list, positions), at(dy, positions))
        for k, position in ipairs(positions) do result[position] = bound.to(x.dtype, row[k]) end
      end
      return {result}
    end,
  }
end

-- Of x[k]: the sum of g[i] · (the product up to i without x[k]) from k on. Anything where a product is out of the range
-- in which float32 has all its bits, and where more is lost than the quotient of a sum and x[k] has.
local function product_slopes(x, g)
  local result, zeros = {}, 0
  for k = 1, #x do
    local others, value, err = 1, 0, 0
    for i = 1, k - 1 do others = others * x[i] end
    if x[k] == 0 then zeros = zeros + 1 end
    for i = k, #x do
      if i > k then others = others * x[i] end
      local size = math.abs(others)
      local whole = x[k] == 0 and size or size * math.abs(x[k])
      local in_range = size < 2 ^ 120 and whole < 2 ^ 120 and (size == 0 or size > 2 ^ -90 and whole > 2 ^ -90)
      if not in_range then err = math.huge end
      value, err = value + g[i][1] * others, err + size * (g[i][2] + math.abs(g[i][1]) * 2 ^ -20)
    end
    result[k] = bound.within(value, err)
    if zeros > (x[k] == 0 and 1 or 0) then result[k] = exact(0) end
    for i = 1, #x do
      if not finite(x[i]) or g[i][2] == math.huge then result[k] = {0, math.huge} end
    end
  end
  return result
end

operations.cumsum = scan(sums, integers(0LL, function(a, b) return a + b end), function(x, g)
  local result = {}
  for k = 1, #x do result[k] = bound.sum {unpack(g, k)} end
  return result
end)
operations.cumprod = scan(products, integers(1LL, function(a, b) return a * b end), product_slopes)

-- Integers become i64, which no other integer tensor takes.
for _, name in ipairs {"cumsum", "cumprod"} do
  operations[name .. "_"] = in_place(operations[name])
  operations[name .. "_"].takes = function(x)
    return operation.has_dimension(x) and (operation.is_float(x) or x.dtype == "i64")
  end
end

return operations

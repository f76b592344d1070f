--- Statistics and checks of all elements or of dimensions, composed of other operations in float32.
local bound = require "spec.support.reference.bound"
local elementwise = require "spec.support.reference.elementwise"
local operands = require "spec.support.programs.operands"
local operation = require "spec.support.programs.operation"
local reduce = require "spec.support.programs.reduce"
local reference = require "spec.support.reference"
local tensor = require "spec.support.reference.tensor"

local map, var, all_finite = operation.map, operation.var, operation.all_finite
local exact, add, sub, mul, div, neg = bound.exact, bound.add, bound.sub, bound.mul, bound.div, bound.neg
local f32 = reference.f32

local operations = {}

--- --- var and std ---

-- Of a row: the standard deviation, the norm of the differences from the mean, and these. NaN alone where that is the
-- deviation, and false where all depends on whether the differences are 0.
local function deviation(values, correction)
  local count = #values
  if count < 2 and count <= correction or not all_finite(values) then return 0 / 0 end
  if count <= correction then return false end
  local mean = div(bound.sum(map(exact, values)), exact(count))
  local differences, squares, errors = {}, 0, 0
  for i, value in ipairs(values) do
    local difference = sub(exact(value), mean)
    differences[i] = difference
    squares, errors = squares + difference[1] ^ 2, errors + difference[2] ^ 2
  end
  -- The norm's error is at most the norm of the errors, and a rounding.
  local norm = add(bound.within(math.sqrt(squares), math.sqrt(errors)), exact(0))
  return div(norm, exact(f32(math.sqrt(count - correction)))), norm, differences
end

local function correction_of(options) return options and options.correction or 1 end
local function keeps(options) return options and options.keepdim end

-- The derivatives of a row's deviation times g.
local function deviation_slopes(g, norm, differences, correction)
  local by_norm = div(g, exact(f32(math.sqrt(#differences - correction))))
  local parts = map(function(difference) return mul(by_norm, div(difference, norm)) end, differences)
  local by_mean = mul(neg(bound.sum(parts)), exact(f32(1 / #differences)))
  return map(function(part) return add(part, by_mean) end, parts)
end

local function deviating(is_variance)
  return {
    make = function(g, x)
      local options = g.random(2) == 1 and {correction = g.random(3) - 1, keepdim = g.random(2) == 1} or nil
      return {var(x), reduce.random_dimensions(g, #g.tensor(x).shape), options, count = 3}
    end,
    compute = function(x, dimensions, options)
      return reduce.reduced(x, dimensions, keeps(options), operation.is_float(x) and x.dtype or "f32", function(values)
        local result = deviation(map(tensor.float, values), correction_of(options))
        return is_variance and type(result) == "table" and mul(result, result) or result
      end)
    end,
    gradient = reduce.spread(function(g, values, node)
      local correction = correction_of(node.arguments[3])
      local result, norm, differences = deviation(values, correction)
      if not norm then return map(function() return {0, math.huge} end, values) end
      if is_variance then
        local half = mul(g, result)
        g = add(half, half)
      end
      return deviation_slopes(g, norm, differences, correction)
    end),
  }
end

operations.var, operations.std = deviating(true), deviating(false)

--- --- norm ---

local function count_zeros(values)
  local count = 0
  for _, value in ipairs(values) do count = count + (value == 0 and 1 or 0) end
  return count
end

local function root_of_squares(values)
  local squares = 0
  for _, value in ipairs(values) do squares = squares + value ^ 2 end
  local norm = math.sqrt(squares)
  return norm > 4e38 and norm or bound.within(norm, norm * (#values + 2) * 2 ^ -52)
end

-- The p-th root of the sum of powers of finite numbers, taken of shares of the largest.
local function root_of_powers(values, p)
  local largest = 0
  for _, value in ipairs(values) do largest = math.max(largest, math.abs(value)) end
  if largest == 0 then return exact(0) end
  local powers = map(function(value) return bound.power(div(exact(math.abs(value)), exact(largest)), p) end, values)
  return mul(bound.power(bound.sum(powers), 1 / p), exact(largest))
end

local function norm(values, p)
  if p == 0 then return #values - count_zeros(values) end
  local magnitudes = map(math.abs, values)
  if p == 1 then return reduce.float_sum(magnitudes, 1) end
  if math.abs(p) == math.huge then return (reduce.extremum(magnitudes, p > 0)) end
  local special = 0
  for _, value in ipairs(magnitudes) do
    if not operation.is_finite(value) then special = special + value end
  end
  if special ~= 0 then return special end
  return p == 2 and root_of_squares(values) or root_of_powers(values, p)
end

local function sign_times(g, value) return value > 0 and g or value < 0 and neg(g) or exact(0) end

-- The derivatives of a row's norm times g, with `to` rounding to the result's dtype.
local function norm_slopes(g, values, p, result, to)
  if p == 0 then return map(function() return exact(0) end, values) end
  if p == 1 then return map(function(value) return sign_times(g, value) end, values) end
  if math.abs(p) == math.huge then
    return map(sign_times, reduce.shares(g, map(math.abs, values), p > 0, to), values)
  end
  if not all_finite(values) then return map(function() return {0, math.huge} end, values) end
  if p == 2 then
    local known = exact(result == 0 and 1 or result)
    return map(function(value) return to(mul(g, to(div(exact(value), known)))) end, values)
  end
  local whole = root_of_powers(values, p) -- which is float32 until the end
  return map(function(value)
    if value == 0 then return exact(0) end
    return mul(g, sign_times(bound.power(div(exact(math.abs(value)), whole), p - 1), value))
  end, values)
end

operations.norm = {
  make = function(g, x)
    local p = g.pick {2, 1, 3, 0.5, 1.5, 0, math.huge, -math.huge}
    local shape = g.tensor(x).shape
    local dimensions = reduce.random_dimensions(g, #shape)
    if math.abs(p) == math.huge and reduce.takes_none(shape, dimensions) then return nil end
    return {var(x), (p ~= 2 or g.random(2) == 1) and p or nil, dimensions, g.random(2) == 1 or nil, count = 4}
  end,
  compute = function(x, p, dimensions, keepdim)
    return reduce.reduced(x, dimensions, keepdim, operation.is_float(x) and x.dtype or "f32", function(values)
      return norm(map(tensor.float, values), p or 2)
    end)
  end,
  gradient = reduce.spread(function(g, values, node, result)
    return norm_slopes(g, values, node.arguments[2] or 2, result, operation.rounds_to(node.result.dtype))
  end, 3),
}

--- --- logsumexp ---

-- Of a row: a number where it is infinite or NaN, else a bound.
local function log_sum(values)
  local largest, special = -math.huge, nil
  for _, value in ipairs(values) do
    if value ~= value then special = value end
    largest = math.max(largest, value)
  end
  if special or math.abs(largest) == math.huge then return special or largest end
  local total = bound.sum(map(function(value)
    return value == -math.huge and exact(0) or bound.exp(sub(exact(value), exact(largest)))
  end, values))
  return add(bound.log(total), exact(largest))
end

operations.logsumexp = {
  make = function(g, x)
    return {var(x), reduce.random_dimensions(g, #g.tensor(x).shape), g.random(2) == 1 or nil, count = 3}
  end,
  compute = function(x, dimensions, keepdim)
    return reduce.reduced(x, dimensions, keepdim, operation.is_float(x) and x.dtype or "f32", function(values)
      return log_sum(map(tensor.float, values))
    end)
  end,
  gradient = reduce.spread(function(g, values)
    local result = log_sum(values)
    return map(function(value)
      if type(result) == "number" or value == -math.huge then return {0, math.huge} end
      return mul(g, bound.exp(sub(exact(value), result)))
    end, values)
  end),
}

--- --- checks ---

local function checking(check)
  return {
    differentiable = false, make = operations.logsumexp.make,
    compute = function(x, dimensions, keepdim)
      return reduce.reduced(x, dimensions, keepdim, "u8", function(values) return check(values) and 1LL or 0LL end)
    end,
  }
end

operations.any = checking(function(values) return count_zeros(values) < #values end)
operations.all = checking(function(values) return count_zeros(values) == 0 end)

operations.isclose = {
  differentiable = false,
  make = function(g, x)
    local y = g.random(3) == 1 and x or g.any(function(y)
      local shape = operation.broadcast(y.shape, g.tensor(x).shape)
      return shape and tensor.count(shape) <= 300
    end)
    return y and {var(x), var(y), g.random(2) == 1 and g.pick {0.1, 0.5, 1e-3} or nil,
      g.random(2) == 1 and g.pick {1, 0.25, 0} or nil, g.random(2) == 1 or nil, count = 5}
  end,
  compute = function(x, y, rtol, atol, equal_nan)
    local shape = elementwise.broadcast(x.shape, y.shape)
    local first, second = operands.lists(x, y, shape, "f32")
    rtol, atol = f32(rtol or 1e-5), f32(atol or 1e-8)
    return operation.new("u8", shape, map(function(a, b)
      local distance = f32(math.abs(a - b))
      local close = a == b or distance < math.huge and distance <= f32(f32(math.abs(b) * rtol) + atol)
      return (close or equal_nan and a ~= a and b ~= b) and 1LL or 0LL
    end, first, second))
  end,
}

return {operations = operations}

--- Elementwise operations of two tensors, or a tensor and a number.
local ffi = require "ffi"
local bound = require "spec.support.reference.bound"
local elementwise = require "spec.support.reference.elementwise"
local integers = require "spec.support.integers"
local operand = require "spec.support.programs.operands"
local operation = require "spec.support.programs.operation"
local reference = require "spec.support.reference"
local tensor = require "spec.support.reference.tensor"

local new, map, var, stored = operation.new, operation.map, operation.var, operation.stored
local finite, is_float, rounds_to = operation.is_finite, operation.is_float, operation.rounds_to
local is_number, meeting, operands, pair, partner, shape_of =
  operand.is_number, operand.meeting, operand.lists, operand.pair, operand.partner, operand.shape_of
local exact, is_integer = bound.exact, tensor.is_integer
local f32, int64 = reference.f32, ffi.typeof "int64_t"

local operations = {}

local signs = {add = "+", sub = "-", mul = "*", div = "/"}

local function operator(name)
  return function(a, b) return a .. " " .. signs[name] .. " " .. b end
end

-- √(a² + b²) of finite numbers.
local function hypotenuse(a, b)
  local value = math.sqrt(a * a + b * b)
  return bound.within(value, value * 5e-7 + 2 ^ -150)
end

-- An exact operation on float32 values, rounded to a dtype.
local function at_once(dtype, value) return tensor.cast(f32(value), dtype) end

-- Of the operands and the result y: the derivatives by both, times g, with `to` rounding to the result's dtype.
local derivatives = {
  remainder = function(to, g, a, b, y, dtype)
    local quotient = elementwise.unary.round(at_once(dtype, at_once(dtype, a - y) / b))
    return g, bound.neg(to(bound.mul(g, exact(at_once(dtype, quotient)))))
  end,
  atan2 = function(to, g, a, b)
    local distance = to(hypotenuse(a, b))
    local share = to(bound.div(g, distance))
    return to(bound.mul(share, to(bound.div(exact(b), distance)))),
      bound.neg(to(bound.mul(share, to(bound.div(exact(a), distance)))))
  end,
  hypot = function(to, g, a, b, y)
    local known = exact(y == 0 and 1 or y)
    return to(bound.mul(g, to(bound.div(exact(a), known)))), to(bound.mul(g, to(bound.div(exact(b), known))))
  end,
  add = function(_, g) return g, g end,
  sub = function(_, g) return g, bound.neg(g) end,
  mul = function(to, g, a, b) return to(bound.mul(g, exact(b))), to(bound.mul(g, exact(a))) end,
  div = function(to, g, a, b)
    local first = to(bound.div(g, exact(b)))
    return first, bound.neg(to(bound.mul(first, to(bound.div(exact(a), exact(b))))))
  end,
  maximum = function(_, g, a, b)
    local half = bound.within(g[1] / 2, g[2] / 2)
    return a > b and g or a < b and exact(0) or half, b > a and g or b < a and exact(0) or half
  end,
}
function derivatives.minimum(to, g, a, b) return derivatives.maximum(to, g, -a, -b) end

local function gradient_of(name)
  return function(node, dy)
    local a, b = unpack(node.arguments)
    local left, right = operands(a, b, node.result.shape, node.result.dtype)
    local first, second, to = {}, {}, rounds_to(node.result.dtype)
    local result = tensor.list(node.result)
    for i = 1, #dy do
      first[i], second[i] = derivatives[name](to, dy[i], left[i], right[i], result[i], node.result.dtype)
      if name == "maximum" or name == "minimum" then first[i], second[i] = to(first[i]), to(second[i]) end
    end
    return {first, second}
  end
end

local function arithmetic(name, dtype, a, b, shape)
  local f = elementwise.binary[name] or elementwise[name]
  local left, right = operands(a, b, shape, dtype)
  return map(function(first, second)
    local value = f(first, second)
    return is_integer(dtype) and integers.wrapped(value, dtype) or tensor.cast(f32(value), dtype)
  end, left, right)
end

for _, name in ipairs {"add", "sub", "mul", "div", "remainder"} do
  local function result_dtype(a, b)
    local dtype = meeting(a, b)
    return name == "div" and is_integer(dtype) and "f32" or dtype
  end
  operations[name] = {
    make = pair,
    text = not signs[name] and "function" or function(a, b)
      return a:find "^v" and #b % 2 == 0 and a .. ":" .. name .. "(" .. b .. ")" or operator(name)(a, b)
    end,
    compute = function(a, b)
      local dtype, shape = result_dtype(a, b), shape_of(a, b)
      return new(dtype, shape, arithmetic(name, dtype, a, b, shape))
    end,
    gradient = gradient_of(name),
  }
  operations[name .. "_"] = {
    in_place = true,
    make = function(g, x)
      local own, b = g.tensor(x), partner(g, x, true)
      local other = is_number(b) and b or g.tensor(b.variable)
      if not is_float(own) and is_integer(own.dtype) and not is_integer(result_dtype(own, other)) then return nil end
      return {var(x), b}
    end,
    compute = function(x, b)
      -- A float tensor is computed with in float32, whatever b is; an integer one in 64 bits.
      tensor.write(x, arithmetic(name, x.dtype, x, b, x.shape))
      return x
    end,
  }
end

--- x · x
operations.square = {
  make = function(_, x) return {var(x)} end,
  compute = function(x) return operations.mul.compute(x, x) end,
  gradient = function(node, dy)
    local to = rounds_to(node.result.dtype)
    return {map(function(g, x)
      local part = to(bound.mul(g, exact(x)))
      return to(bound.add(part, part))
    end, dy, tensor.list(node.arguments[1]))}
  end,
}

-- Functions of two numbers that are not rounded correctly.
local angles = {
  atan2 = function(a, b)
    local value = math.atan2(a, b)
    return value ~= value and value or bound.within(value, math.abs(value) * 5e-7 + 2 ^ -150)
  end,
  hypot = function(a, b)
    if math.abs(a) == math.huge or math.abs(b) == math.huge then return math.huge end
    return (a ~= a or b ~= b) and 0 / 0 or hypotenuse(a, b)
  end,
}

for name, f in pairs(angles) do
  operations[name] = {
    make = pair, text = "function",
    compute = function(a, b)
      local dtype, shape = meeting(a, b), shape_of(a, b)
      if is_integer(dtype) then dtype = "f32" end
      local left, right = operands(a, b, shape, dtype)
      return new(dtype, shape, stored(map(f, left, right), dtype), true)
    end,
    gradient = gradient_of(name),
  }
end

for _, name in ipairs {"maximum", "minimum"} do
  local function choose(a, b)
    if a ~= a then return a end
    if b ~= b then return b end
    if name == "maximum" then return a > b and a or b end
    return a < b and a or b
  end
  operations[name] = {
    make = pair, text = "function",
    compute = function(a, b)
      local dtype, shape = meeting(a, b), shape_of(a, b)
      if is_integer(dtype) then -- a number saturates first
        a = is_number(a) and tonumber(integers.from_number(a, dtype)) or a
        b = is_number(b) and tonumber(integers.from_number(b, dtype)) or b
      end
      local left, right = operands(a, b, shape, dtype)
      return new(dtype, shape, map(function(first, second)
        return tensor.cast(choose(first, second), dtype)
      end, left, right), true)
    end,
    gradient = gradient_of(name),
  }
end

for name in pairs(elementwise.comparisons) do
  local compare, is_logical = elementwise.binary[name], name:find "^logical" ~= nil
  operations[name] = {
    differentiable = false,
    make = function(g, x)
      local arguments = pair(g, x)
      if arguments and is_number(arguments[1]) then arguments[1], arguments[2] = arguments[2], arguments[1] end
      return arguments
    end,
    compute = function(a, b)
      if is_logical and is_number(b) then b = b ~= 0 and 1 or 0 end
      local dtype, shape = meeting(a, b), shape_of(a, b)
      if is_number(b) and is_integer(a.dtype) and not is_logical then
        return new("u8", shape, map(function(value)
          local order = integers.compare(value, b)
          return int64(order and compare(order, 0) or compare(0 / 0, 0))
        end, tensor.list(a)))
      end
      local left, right = operands(a, b, shape, dtype)
      return new("u8", shape, map(function(first, second) return int64(compare(first, second)) end, left, right))
    end,
  }
end

local exponents = {0, 1, 2, 2, 3, -1, 0.5, 1.5, -2}

-- a^b of float32 values: a number where that is 0, infinite or NaN by definition.
local function power(a, b, exponent_error)
  local value = a ^ b
  if not (finite(a) and finite(b) and finite(value)) or value == 0 then return value end
  if b == 0 or a == 1 then return 1 end
  return math.abs(value) > 4e38 and value or bound.pow(a, b, a > 0 and exponent_error or nil)
end

local function power_bound(a, b, exponent_error)
  local value = power(a, b, exponent_error)
  return is_number(value) and exact(value) or value
end

operations.pow = {
  make = function(g, x)
    if g.random(2) == 1 then return {var(x), g.pick(exponents)} end
    return g.random(4) == 1 and {g.pick {0.5, 1, 2, 3}, var(x)} or pair(g, x)
  end,
  text = function(a, b) return "(" .. a .. ") ^ " .. b end,
  compute = function(a, b)
    local dtype, shape = meeting(a, b), shape_of(a, b)
    if is_integer(dtype) then dtype = "f32" end
    local left, right = operands(a, b, shape, dtype)
    return new(dtype, shape, stored(map(power, left, right), dtype), true)
  end,
  gradient = function(node, dy)
    local a, b = unpack(node.arguments)
    local left, right = operands(a, b, node.result.shape, node.result.dtype)
    local first, second, to = {}, {}, rounds_to(node.result.dtype)
    for i, g in ipairs(dy) do
      local x, y = left[i], right[i]
      local slope = to(bound.mul(to(power_bound(x, y - 1, math.abs(y - 1) * 2 ^ -24)), exact(y)))
      first[i] = y == 0 and exact(0) or y == 1 and g or y == 2 and is_number(b) and
        to(bound.mul(to(bound.mul(g, exact(2))), exact(x))) or to(bound.mul(g, slope))
      local growth = to(bound.mul(to(power_bound(x, y)), to(bound.log(exact(x)))))
      second[i] = x == 0 and y >= 0 and exact(0) or to(bound.mul(g, growth))
    end
    return {first, second}
  end,
}

return operations

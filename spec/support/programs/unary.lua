--- Elementwise operations of one tensor.
local bound = require "spec.support.reference.bound"
local elementwise = require "spec.support.reference.elementwise"
local integers = require "spec.support.integers"
local operation = require "spec.support.programs.operation"
local reference = require "spec.support.reference"
local tensor = require "spec.support.reference.tensor"

local new, map, var, is_float = operation.new, operation.map, operation.var, operation.is_float
local finite, rounds_to, stored = operation.is_finite, operation.rounds_to, operation.stored
local exact, f32 = bound.exact, reference.f32

local operations = {}

-- A function of a float, as a bound, or as itself where it is infinite or NaN, which then has to come out.
local function bounded(f, limits)
  return function(x)
    local special = limits(x)
    if special then return special end
    local value = f(exact(x))
    return math.abs(value[1]) > 4e38 and value[1] or value -- which float32 can only make infinite
  end
end

-- The value of f in double, where that is not finite.
local function by_value(f)
  return function(x)
    local value = f(x)
    return (not finite(value) or not finite(x)) and value or nil
  end
end

-- 2u of the approximation by tanh: √(8/π) (x + 0.044715 x³), its constants as float32 has them.
local root, cubic = bound.within(math.sqrt(8 / math.pi), 1e-7), bound.within(0.044715, 3e-9)
local one, three = exact(1), exact(3)

local function argument(x)
  return bound.mul(root, bound.add(x, bound.mul(bound.mul(bound.mul(cubic, x), x), x)))
end

local function sigmoid_limit(x) return x ~= x and x or x == math.huge and 1 or x == -math.huge and 0 or nil end
local function swish_limit(x) return (x ~= x or x == -math.huge) and 0 / 0 or x == math.huge and x or nil end

-- A value that is good to the error of a function.
local function accurate(f)
  return function(a)
    local value = f(a[1])
    return bound.within(value, math.abs(value) * 5e-7 + 2 ^ -150)
  end
end

local limited = elementwise.unary

local functions = {
  expm1 = bounded(function(a) return bound.expm1(a[1]) end, by_value(limited.expm1)),
  log1p = bounded(bound.log1p, by_value(limited.log1p)),
  log2 = bounded(accurate(limited.log2), by_value(limited.log2)),
  log10 = bounded(accurate(limited.log10), by_value(limited.log10)),
  cos = bounded(accurate(math.cos), by_value(math.cos)),
  tan = bounded(accurate(math.tan), by_value(math.tan)),
  erf = bounded(function(a) return bound.erf(a[1]) end, by_value(limited.erf)),
  exp = bounded(bound.exp, by_value(math.exp)),
  log = bounded(bound.log, by_value(limited.log)),
  rsqrt = bounded(function(a) return bound.div(one, bound.sqrt(a)) end, by_value(limited.rsqrt)),
  sin = bounded(accurate(math.sin), by_value(math.sin)),
  tanh = bounded(accurate(math.tanh), by_value(math.tanh)),
  sigmoid = bounded(bound.sigmoid, sigmoid_limit),
  gelu = bounded(function(a) return bound.mul(a, bound.normal_cdf(a[1])) end, swish_limit),
  gelu_tanh = bounded(function(a)
    if math.abs(a[1]) > 1e12 then return exact(math.max(a[1], 0)) end -- x³ may be infinite
    return bound.mul(a, bound.sigmoid(argument(a)))
  end, swish_limit),
  silu = bounded(function(a) return bound.mul(a, bound.sigmoid(a)) end, swish_limit),
}

-- What a 16-bit result is as the derivative reads it again.
local function again(node, name)
  local f, dtype = functions[name], node.result.dtype
  return function(x)
    local y = f(x)
    return type(y) == "number" and exact(y) or bound.to(dtype, y)
  end
end

-- A constant as float32 has it.
local function constant(value) return bound.within(value, value * 2 ^ -24) end

local ln_2, ln_10, two_over_root_pi = constant(math.log(2)), constant(math.log(10)), constant(2 / math.sqrt(math.pi))

-- By name, the derivative times g, with `to` rounding to the result's dtype.
local slopes = {
  expm1 = function(g, x, to, y) return to(bound.mul(g, bound.add(y(x), one))) end,
  log1p = function(g, x, to) return to(bound.div(g, bound.add(exact(x), one))) end,
  log2 = function(g, x, to) return to(bound.div(g, bound.mul(exact(x), ln_2))) end,
  log10 = function(g, x, to) return to(bound.div(g, bound.mul(exact(x), ln_10))) end,
  cos = function(g, x, to) return to(bound.mul(bound.neg(g), functions.sin(x))) end,
  tan = function(g, x, to, y) return to(bound.mul(g, bound.add(one, bound.mul(y(x), y(x))))) end,
  erf = function(g, x, to)
    local bounded_x = exact(math.max(-100, math.min(x, 100))) -- beyond, the square may be infinite
    return to(bound.mul(g, bound.mul(two_over_root_pi, bound.exp(bound.neg(bound.mul(bounded_x, bounded_x))))))
  end,
  exp = function(g, x, to, y) return to(bound.mul(g, y(x))) end,
  log = function(g, x, to) return to(bound.div(g, exact(x))) end,
  rsqrt = function(g, x, to, y)
    local root_inverse = y(x)
    local cube = to(bound.mul(root_inverse, to(bound.mul(root_inverse, root_inverse))))
    return to(bound.mul(to(bound.mul(g, exact(-0.5))), cube))
  end,
  sin = function(g, x, to) return to(bound.mul(g, bound.cos(x))) end,
  tanh = function(g, x, to, y)
    return to(bound.mul(g, bound.sub(one, bound.mul(y(x), y(x)))))
  end,
  sigmoid = function(g, x, to, y) return to(bound.mul(bound.mul(g, y(x)), bound.sub(one, y(x)))) end,
  gelu = function(g, x, to)
    local density = bound.mul(exact(x), bound.normal_density(x))
    return to(bound.mul(g, bound.add(bound.normal_cdf(x), density)))
  end,
  gelu_tanh = function(g, x, to)
    local a = exact(math.max(-10, math.min(x, 10)))
    local s = bound.sigmoid(argument(a))
    local slope = bound.mul(root, bound.add(one, bound.mul(bound.mul(bound.mul(three, cubic), a), a)))
    local change = bound.mul(bound.mul(bound.mul(a, s), bound.sub(one, s)), slope)
    return to(bound.mul(g, bound.add(s, change)))
  end,
  silu = function(g, x, to)
    local s = bound.sigmoid(exact(x))
    local change = bound.mul(exact(x), bound.sub(one, s))
    return to(bound.mul(bound.mul(g, s), bound.add(one, change)))
  end,
}

local function unary(name)
  return {
    make = function(_, x) return {var(x)} end,
    compute = function(x)
      local dtype = is_float(x) and x.dtype or "f32"
      return new(dtype, x.shape, stored(map(functions[name], operation.float_list(x)), dtype), true)
    end,
    gradient = function(node, dy)
      local to, y, slope = rounds_to(node.result.dtype), again(node, name), slopes[name]
      return {map(function(g, x)
        return finite(x) and slope(g, x, to, y) or {0, math.huge}
      end, dy, operation.float_list(node.arguments[1]))}
    end,
  }
end

for name in pairs(functions) do operations[name] = unary(name) end
operations.gelu_tanh = nil

operations.gelu.make = function(g, x) return {var(x), g.pick {"none", "tanh"}} end
operations.gelu.compute = function(x, approximate)
  local f = functions[approximate == "tanh" and "gelu_tanh" or "gelu"]
  local dtype = is_float(x) and x.dtype or "f32"
  return new(dtype, x.shape, stored(map(f, operation.float_list(x)), dtype), true)
end
operations.gelu.gradient = function(node, dy)
  local to, slope = rounds_to(node.result.dtype), slopes[node.arguments[2] == "tanh" and "gelu_tanh" or "gelu"]
  return {map(function(g, x)
    return finite(x) and slope(g, x, to) or {0, math.huge}
  end, dy, operation.float_list(node.arguments[1]))}
end

-- Of floats, of integers (as int64_t, before they are cut to their dtype), and the derivative times g.
local simple = {
  neg = {function(x) return -x end, function(x) return -x end, function(g) return bound.neg(g) end},
  abs = {math.abs, function(x) return x < 0 and -x or x end, function(g, x)
    return x > 0 and g or x < 0 and bound.neg(g) or exact(0)
  end},
  relu = {function(x) return x < 0 and 0 or x end, function(x) return x < 0 and 0LL or x end, function(g, x)
    return x > 0 and g or exact(0)
  end},
}

local function nothing() return exact(0) end

simple.sign = {limited.sign, function(x) return x > 0 and 1LL or x < 0 and -1LL or 0LL end, nothing}
for _, name in ipairs {"floor", "ceil", "round", "trunc"} do
  simple[name] = {limited[name], function(x) return x end, nothing}
end

for name, rules in pairs(simple) do
  operations[name] = {
    make = function(_, x) return {var(x)} end,
    text = name == "neg" and function(x) return "-" .. x end or nil,
    compute = function(x)
      if is_float(x) then
        return new(x.dtype, x.shape, stored(map(rules[1], tensor.list(x)), x.dtype), name ~= "neg" and name ~= "abs")
      end
      return new(x.dtype, x.shape, map(function(value)
        return integers.wrapped(rules[2](value), x.dtype)
      end, tensor.list(x)))
    end,
    gradient = function(node, dy) return {map(rules[3], dy, tensor.list(node.arguments[1]))} end,
  }
end

-- Roots and quotients are rounded correctly, as arithmetic is.
local correct = {
  sqrt = function(g, x, to) return to(bound.div(to(bound.mul(g, exact(0.5))), to(bound.sqrt(exact(x))))) end,
  -- As that of 1 / x.
  reciprocal = function(g, x, to)
    return bound.neg(to(bound.mul(to(bound.div(g, exact(x))), to(bound.div(one, exact(x))))))
  end,
}

for name, slope in pairs(correct) do
  operations[name] = {
    make = function(_, x) return {var(x)} end,
    compute = function(x)
      local dtype = is_float(x) and x.dtype or "f32"
      return new(dtype, x.shape, map(function(value)
        return tensor.cast(f32(limited[name](value)), dtype)
      end, operation.float_list(x)))
    end,
    gradient = function(node, dy)
      local to = rounds_to(node.result.dtype)
      return {map(function(g, x) return slope(g, x, to) end, dy, operation.float_list(node.arguments[1]))}
    end,
  }
end

-- Checks: of floats; of integers only one can be true.
local checks = {
  isnan = function(x) return x ~= x end,
  isinf = function(x) return math.abs(x) == math.huge end,
  isfinite = finite,
  logical_not = function(x) return x == 0 end,
}

for name, check in pairs(checks) do
  operations[name] = {
    differentiable = false,
    make = function(_, x) return {var(x)} end,
    compute = function(x)
      return new("u8", x.shape, map(function(value) return check(value) and 1LL or 0LL end, operation.float_list(x)))
    end,
  }
end

return operations

--- Inverse and hyperbolic functions that are composed of others: in float32, rounded once; integers become f32.
local activation = require "fp8.ops.elementwise.activation"
local as_float = require "fp8.ops.as_float"
local autograd = require "fp8.autograd"
local binary = require "fp8.ops.elementwise.binary"
local choice = require "fp8.ops.elementwise.choice"
local core = require "fp8.core"
local in_float32 = require "fp8.ops.in_float32"
local unary = require "fp8.ops.elementwise.unary"

local add, atan2, div, mul, sub = binary.add, binary.atan2, binary.div, binary.mul, binary.sub

local function composed(f)
  return function(x) return in_float32(f, as_float(x)) end
end

-- The same, whose derivative is slope(x), by the core: that of the composition is NaN where it is infinite.
local function with_slope(name, f, slope)
  local operation = {name = name, backward = function(_, grad, x) return core.mul(grad, slope(x)) end}
  return composed(function(x)
    local y = autograd.no_grad(f, x)
    if autograd.needs_grad(x) then autograd.record(y, operation, {x}, {x}) end
    return y
  end)
end

local trigonometry = {}

--- x:atan(), x:asin(), x:acos(): radians; NaN where |x| is above 1, but for the first.
--   fp8.tensor({0, 1}):atan() --> {0, math.pi / 4}
--   fp8.tensor({0, 1}):asin() --> {0, math.pi / 2}
--   fp8.tensor({0, 1}):acos() --> {math.pi / 2, 0}
function trigonometry.atan(x) return atan2(x, 1) end

-- 1 / √(1 - x²)
local function asin_slope(x) return core.mul(core.rsqrt(core.sub(1, x)), core.rsqrt(core.add(1, x))) end

trigonometry.asin = with_slope("asin", function(x)
  return atan2(x, unary.sqrt(mul(sub(1, x), add(1, x))))
end, asin_slope)
trigonometry.acos = with_slope("acos", function(x)
  return mul(atan2(unary.sqrt(sub(1, x)), unary.sqrt(add(1, x))), 2)
end, function(x) return core.neg(asin_slope(x)) end)

-- e^|x| / 2, which is finite where the results are.
local function half_power(x) return unary.exp(sub(unary.abs(x), math.log(2))) end

-- Near 0 by e^x - 1, where the two powers cancel.
local function sinh(x)
  local less = unary.expm1(choice.clamp(x, -1, 1))
  local small = mul(add(less, div(less, add(less, 1))), 0.5)
  local half = half_power(x)
  return choice.where(choice.lt(unary.abs(x), 1), small, mul(unary.sign(x), sub(half, div(0.25, half))))
end

--- x:sinh(), x:cosh(): (e^x - e^-x) / 2 and (e^x + e^-x) / 2.
--   fp8.tensor({0, 1}):sinh() --> {0, 1.1752012}
--   fp8.tensor({0, 1}):cosh() --> {1, 1.5430806}
trigonometry.sinh = composed(sinh)
trigonometry.cosh = composed(function(x)
  local half = half_power(x)
  return add(half, div(0.25, half))
end)

-- ln(|x| + √(x² + 1)) with x's sign; near 0 by what is added to 1, and far from it without x², which would overflow.
local function asinh(x)
  local size = choice.where(choice.lt(x, 0), unary.neg(x), x)
  local near = choice.clamp(size, nil, 2 ^ 12)
  local square = mul(near, near)
  local small = unary.log1p(add(near, div(square, add(unary.sqrt(add(square, 1)), 1))))
  local large = add(unary.log(choice.clamp(size, 1)), math.log(2))
  local y = choice.where(choice.lt(size, 2 ^ 12), small, large)
  return choice.where(choice.lt(x, 0), unary.neg(y), y)
end

local function acosh(x)
  local above = sub(choice.clamp(x, nil, 2 ^ 12), 1)
  local small = unary.log1p(add(above, unary.sqrt(mul(above, add(above, 2)))))
  return choice.where(choice.gt(x, 2 ^ 12), add(unary.log(choice.clamp(x, 1)), math.log(2)), small)
end

--- x:asinh(), x:acosh(), x:atanh(): the inverses of x:sinh, x:cosh and x:tanh; NaN where there is none.
--   fp8.tensor({0, 1}):asinh() --> {0, 0.8813736}
--   fp8.tensor({1, 2}):acosh() --> {0, 1.3169579}
--   fp8.tensor({0, 0.5}):atanh() --> {0, 0.5493061}
trigonometry.asinh = composed(asinh)
trigonometry.acosh = with_slope("acosh", acosh, function(x)
  return core.mul(core.rsqrt(core.sub(x, 1)), core.rsqrt(core.add(x, 1)))
end)
trigonometry.atanh = composed(function(x) return mul(sub(unary.log1p(x), unary.log1p(unary.neg(x))), 0.5) end)

--- x:exp2(): 2^x.
--   fp8.tensor({-1, 3}):exp2() --> {0.5, 8}
trigonometry.exp2 = composed(function(x) return binary.pow(2, x) end)

--- x:frac(): x less its whole part, with x's sign.
--   fp8.tensor({-1.25, 2.5}):frac() --> {-0.25, 0.5}
function trigonometry.frac(x) return sub(x, unary.trunc(x)) end

--- x:logsigmoid(): ln of the sigmoid.
--   fp8.tensor({0, -1000}):logsigmoid() --> {-0.6931472, -1000}
trigonometry.logsigmoid = composed(function(x) return unary.neg(activation.softplus(unary.neg(x))) end)

--- x:mish(): x · tanh(ln(1 + e^x)): Misra, "Mish" (2019).
--   fp8.tensor({0, 1}):mish() --> {0, 0.8650984}
trigonometry.mish = composed(function(x) return mul(x, unary.tanh(activation.softplus(x))) end)

--- x:softsign(): x / (1 + |x|).
--   fp8.tensor({-1, 3}):softsign() --> {-0.5, 0.75}
trigonometry.softsign = composed(function(x) return div(x, add(unary.abs(x), 1)) end)

return trigonometry

--- Elementwise functions that are composed of others.
local as_float = require "fp8.ops.as_float"
local check = require "fp8.ops.check"
local check_options = require "fp8.check_options"
local binary = require "fp8.ops.elementwise.binary"
local choice = require "fp8.ops.elementwise.choice"
local core = require "fp8.core"
local in_float32 = require "fp8.ops.in_float32"
local unary = require "fp8.ops.elementwise.unary"

local add, mul, sub = binary.add, binary.mul, binary.sub

local composed = {}

--- x · x; integers stay integers.
--   fp8.tensor({3, -4}):square() --> {9, 16}
function composed.square(x) return mul(x, x) end

--- 1 / x; of integers as f32.
--   fp8.tensor({4, -0.5}):reciprocal() --> {0.25, -2}
function composed.reciprocal(x) return binary.div(1, x) end

local known_options = {value = "number"}

local function multiply_add(x, a, b, value) return add(x, mul(value == nil and a or mul(a, value), b)) end

--- x:addcmul(a, b [, {value =}]): x + value · a · b, with 1 for `value`, a number, if it is left out.
--   fp8.tensor({1, 1}):addcmul(fp8.tensor {2, 3}, fp8.tensor {4, 5}, {value = 0.5}) --> {5, 8.5}
function composed.addcmul(x, a, b, options)
  return in_float32(multiply_add, x, a, b, check_options("addcmul", options, known_options).value)
end

local function divide_add(x, a, b, value) return add(x, binary.div(value == nil and a or mul(a, value), b)) end

--- x:addcdiv(a, b [, {value =}]): x + value · a / b, with 1 for `value`, a number, if it is left out.
--   fp8.tensor({1, 1}):addcdiv(fp8.tensor {2, 3}, fp8.tensor {4, 6}) --> {1.5, 1.5}
function composed.addcdiv(x, a, b, options)
  return in_float32(divide_add, x, a, b, check_options("addcdiv", options, known_options).value)
end

-- From the nearer end, so that weights 0 and 1 give the ends themselves.
local function interpolate(x, y, weight)
  local way = sub(y, x)
  local from_x = add(x, mul(way, weight))
  local from_y = sub(y, mul(way, sub(1, weight)))
  return choice.where(choice.lt(weight, 0.5), from_x, from_y)
end

local function interpolate_by_number(x, y, weight)
  local way = sub(y, x)
  if weight < 0.5 then return add(x, mul(way, weight)) end
  return sub(y, mul(way, 1 - weight))
end

--- x:lerp(y, weight): x + weight · (y - x), of a number or a tensor of weights.
--   fp8.tensor({0, 10}):lerp(fp8.tensor {4, 20}, 0.25) --> {1, 12.5}
function composed.lerp(x, y, weight)
  return in_float32(type(weight) == "number" and interpolate_by_number or interpolate, x, y, weight)
end

-- From the larger one, so that no power overflows; of equal infinities that itself.
local function log_of_sum(x, y)
  local distance = choice.where(choice.eq(x, y), 0, sub(x, y))
  return add(binary.maximum(x, y), unary.log1p(unary.exp(unary.neg(unary.abs(distance)))))
end

--- x:logaddexp(y): ln(e^x + e^y), where no power overflows; of integers as f32.
--   fp8.tensor({1000}):logaddexp(fp8.tensor {1000}) --> {1000.6931472}
function composed.logaddexp(x, y)
  return in_float32(log_of_sum, core.is_tensor(x) and as_float(x) or x, core.is_tensor(y) and as_float(y) or y)
end

--- x:heaviside(values): 0 below 0, 1 above, and `values`, a tensor or a number, at 0; 0 of NaN, as in PyTorch. Not
-- differentiable.
--   fp8.tensor({-2, 0, 3}):heaviside(0.5) --> {0, 0.5, 1}
function composed.heaviside(x, values)
  return core.where(core.eq(x, 0), values, core.to(core.gt(x, 0), {dtype = core.dtype(x)}))
end

-- The remainder of sizes is exact; its sign is x's.
local function signed_remainder(x, y)
  local function size(value) return choice.where(choice.lt(value, 0), unary.neg(value), value) end
  local rest = binary.remainder(size(x), core.is_tensor(y) and size(y) or math.abs(y))
  return choice.where(choice.lt(x, 0), unary.neg(rest), rest)
end

--- x:fmod(y): x - y · trunc(x / y), of a tensor or a number y: what division towards zero leaves, with x's sign, where
-- x:remainder(y) has y's.
--   fp8.tensor({-3, 3.5}):fmod(2) --> {-1, 1.5}
function composed.fmod(x, y)
  check.tensor("fmod", 1, x)
  if type(y) ~= "number" then check.tensor("fmod", 2, y) end
  return in_float32(signed_remainder, x, y)
end

-- A number as a tensor, in f32 or the float dtype of x.
local function beside(x, y)
  if type(y) ~= "number" then return y end
  return core.full({}, y, {dtype = core.dtype(as_float(x)), device = core.device(x)})
end

-- atan2(±0, -1) is ±π: that knows zeros' signs, too.
local function with_sign(x, y)
  local size = unary.abs(x)
  return choice.where(core.lt(core.atan2(y, -1), 0), unary.neg(size), size)
end

--- x:copysign(y): |x| with the sign of a tensor or a number y, that of -0 included; integers become f32.
--   fp8.tensor({1, -2}):copysign(fp8.tensor {-3, 0}) --> {-1, 2}
function composed.copysign(x, y)
  check.tensor("copysign", 1, x)
  return in_float32(with_sign, as_float(x), check.tensor("copysign", 2, beside(x, y)))
end

local function log_odds(x, eps)
  if eps then x = choice.clamp(x, eps, 1 - eps) end
  return sub(unary.log(x), unary.log1p(unary.neg(x)))
end

--- x:logit([eps]): ln(x / (1 - x)), the inverse of the sigmoid; of x between eps and 1 - eps, if eps is given.
--   fp8.tensor({0.5, 0.75}):logit() --> {0, 1.0986123}
function composed.logit(x, eps)
  check.tensor("logit", 1, x)
  if eps ~= nil and not (type(eps) == "number" and eps >= 0 and eps <= 0.5) then
    core.raise("logit: eps must be a number from 0 to 0.5, got " .. tostring(eps))
  end
  return in_float32(log_odds, as_float(x), eps)
end

local function times_logarithm(x, y)
  return mul(x, unary.log(choice.where(core.logical_and(core.eq(x, 0), core.le(y, 0)), 1, y)))
end

--- x:xlogy(y): x · ln(y), of a tensor or a number y, and 0 where x is 0, unless y is NaN.
--   fp8.tensor({0, 2}):xlogy(fp8.tensor {0, 1}) --> {0, 0}
function composed.xlogy(x, y)
  check.tensor("xlogy", 1, x)
  return in_float32(times_logarithm, x, check.tensor("xlogy", 2, beside(x, y)))
end

return composed

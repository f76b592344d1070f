--- Arithmetic of two operands, which broadcast as NumPy's do; one of them may be a number. Integers give integers, and
-- wrap around, where the doc comment does not say otherwise.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local computable = require "fp8.computable"
local record_sum = require "fp8.ops.elementwise.addition"

local needs_grad, record = autograd.needs_grad, autograd.record
local is_tensor = core.is_tensor
local add, sub, mul, div, neg, where = core.add, core.sub, core.mul, core.div, core.neg, core.where

local binary = {}

--- a + b, as a:add(b)
--   fp8.tensor({1, 2}) + 0.5 --> {1.5, 2.5}
function binary.add(a, b)
  return record_sum(add(a, b), a, b)
end

local subtraction = {
  name = "sub", shares = true,
  backward = function(node, grad) return grad, node.inputs[2] and neg(grad) end,
}

--- a - b, as a:sub(b)
--   1 - fp8.tensor({1, 2}) --> {0, -1}
function binary.sub(a, b)
  local y = sub(a, b)
  if needs_grad(a, b) then record(y, subtraction, {a, b}) end
  return y
end

local multiplication = {
  name = "mul",
  backward = function(node, grad, a, b)
    local inputs = node.inputs
    return inputs[1] and mul(grad, b), inputs[2] and mul(grad, a)
  end,
}

--- a · b, element by element, as a:mul(b)
--   fp8.tensor({1, 2}) * fp8.tensor({3, 4}) --> {3, 8}
function binary.mul(a, b)
  local y = mul(a, b)
  if needs_grad(a, b) then record(y, multiplication, {a, b}, {needs_grad(b) and a, needs_grad(a) and b}) end
  return y
end

local division = {
  name = "div",
  backward = function(node, grad, a, b)
    local grad_a = div(grad, b)
    return grad_a, node.inputs[2] and neg(mul(grad_a, div(a, b)))
  end,
}

--- a / b, as a:div(b); of integers as f32
--   fp8.tensor({1, 2}) / 4 --> {0.25, 0.5}
function binary.div(a, b)
  local y = div(a, b)
  if needs_grad(a, b) then record(y, division, {a, b}, {needs_grad(b) and a, b}) end
  return y
end

-- A tensor as f32: an exponent less 1, and a logarithm, have bits that narrower types would drop.
local function wide(x) return core.to(x, {dtype = "f32"}) end

-- The logarithm of the base: of a tensor or a number.
local function logarithm(a)
  return is_tensor(a) and core.log(wide(a)) or math.log(tonumber(a))
end

local power = {
  name = "pow",
  backward = function(node, grad, a, b)
    local grad_a, grad_b
    if node.inputs[1] then
      -- b · a^(b - 1), and 0 for b = 0 even where a is 0
      grad_a = where(core.eq(b, 0), 0, mul(grad, mul(core.pow(a, sub(wide(b), 1)), b)))
    end
    if node.inputs[2] then
      -- a^b · ln a, and its limit 0 for a = 0 with b >= 0
      local slope = mul(core.pow(a, b), logarithm(a))
      local at_zero = is_tensor(a) and mul(core.eq(a, 0), core.ge(b, 0)) or a == 0 and core.ge(b, 0)
      grad_b = mul(grad, slope)
      if at_zero then grad_b = where(at_zero, 0, grad_b) end
    end
    return grad_a, grad_b
  end,
}

local power_of_number = {
  name = "pow",
  backward = function(node, grad, a)
    local exponent = node.exponent
    if exponent == 0 then return core.zeros(node.shape, {dtype = node.dtype, device = core.device(grad)}) end
    if exponent == 1 then return mul(grad, 1) end
    if exponent == 2 then return mul(mul(grad, 2), a) end
    return mul(grad, mul(core.pow(wide(a), exponent - 1), exponent))
  end,
}

-- A number as pow takes it beside a tensor: rounded to its dtype.
local function exponent_beside(a, number)
  local dtype = core.dtype(a)
  if dtype == "f32" or not computable[dtype] then return tonumber(number) end
  return core.item(core.full({}, number, {dtype = dtype, device = "cpu"}))
end

--- a^b, as a:pow(b); of integers as f32
--   fp8.tensor({1, 3}) ^ 2 --> {1, 9}
function binary.pow(a, b)
  local y = core.pow(a, b)
  if needs_grad(a, b) then
    if is_tensor(b) then
      record(y, power, {a, b}, {a, b})
    else
      record(y, power_of_number, {a}, {a}).exponent = exponent_beside(a, b)
    end
  end
  return y
end

-- Where both operands are equal, each gets half of the gradient.
local function share_between(grad, first_wins, second_wins)
  local half = mul(grad, 0.5)
  return where(first_wins, grad, where(second_wins, 0, half)), where(second_wins, grad, where(first_wins, 0, half))
end

-- The greatest or least of two: a where wins(a, b), b where loses(a, b).
local function winner(name, wins, loses)
  local compute = core[name]
  local operation = {
    name = name,
    backward = function(_, grad, a, b) return share_between(grad, wins(a, b), loses(a, b)) end,
  }
  return function(a, b)
    local y = compute(a, b)
    if needs_grad(a, b) then record(y, operation, {a, b}, {a, b}) end
    return y
  end
end

--- The larger of a and b, NaN if either is. Where they are equal, each gets half of the gradient.
--   fp8.maximum(fp8.tensor({1, 5}), 3) --> {3, 5}
binary.maximum = winner("maximum", core.gt, core.lt)

--- The smaller of a and b, NaN if either is. Where they are equal, each gets half of the gradient.
--   fp8.minimum(fp8.tensor({1, 5}), 3) --> {1, 3}
binary.minimum = winner("minimum", core.lt, core.gt)

-- One whose backward takes both operands and the result.
local function of_two(name, backward)
  local compute, operation = core[name], {name = name, backward = backward, shares = true}
  return function(a, b)
    local y = compute(a, b)
    if needs_grad(a, b) then record(y, operation, {a, b}, {a, b, y}) end
    return y
  end
end

--- a - b · floor(a / b), of the sign of b, as a:remainder(b): Lua's %. Of integers by 0 it is 0.
--   fp8.tensor({5, -5}):remainder(3) --> {2, 1}
binary.remainder = of_two("remainder", function(node, grad, a, b, y)
  return grad, node.inputs[2] and neg(mul(grad, core.round(div(sub(a, y), b))))
end)

--- The angle of the point (b, a) in radians, from -π to π, as a:atan2(b); of integers as f32. Its
-- derivative at (0, 0) is taken to be 0.
--   fp8.tensor({1, -1}):atan2(fp8.tensor {1, -1}) --> {0.7853982, -2.3561945}
binary.atan2 = of_two("atan2", function(_, grad, a, b)
  -- b / (a² + b²), whose squares may overflow
  local distance = core.hypot(a, b)
  distance = where(core.eq(distance, 0), 1, distance)
  local share = div(grad, distance)
  return mul(share, div(b, distance)), neg(mul(share, div(a, distance)))
end)

--- √(a² + b²), which overflows only where the result does, as a:hypot(b); of integers as f32. Its derivative at (0, 0)
-- is taken to be 0.
--   fp8.tensor({3, 5}):hypot(fp8.tensor {4, 12}) --> {5, 13}
binary.hypot = of_two("hypot", function(_, grad, a, b, y)
  local known = where(core.eq(y, 0), 1, y)
  return mul(grad, div(a, known)), mul(grad, div(b, known))
end)

return binary

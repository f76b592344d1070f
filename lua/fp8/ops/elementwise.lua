--- Elementwise operations. Two operands broadcast as NumPy's do; one of them may be a number.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local in_place = require "fp8.ops.in_place"

local needs_grad, record = autograd.needs_grad, autograd.record
local is_tensor = core.is_tensor
local add, sub, mul, div, neg, where = core.add, core.sub, core.mul, core.div, core.neg, core.where

local elementwise = {}

-- An operation of one tensor. `saves` says whether its derivative needs the input, the output or neither.
local function unary(name, saves, backward)
  local compute = core[name]
  local operation = {name = name, backward = backward, shares = saves == "nothing"}
  return function(x)
    local y = compute(x)
    if needs_grad(x) then
      record(y, operation, {x}, saves == "input" and {x} or saves == "output" and {y} or nil)
    end
    return y
  end
end

--- -x
elementwise.neg = unary("neg", "nothing", function(_, grad) return neg(grad) end)
--- |x|; its derivative at 0 is taken to be 0.
elementwise.abs = unary("abs", "input", function(_, grad, x)
  return where(core.gt(x, 0), grad, where(core.lt(x, 0), neg(grad), 0))
end)
--- e^x
elementwise.exp = unary("exp", "output", function(_, grad, y) return mul(grad, y) end)
--- Natural logarithm.
elementwise.log = unary("log", "input", function(_, grad, x) return div(grad, x) end)
--- Square root.
elementwise.sqrt = unary("sqrt", "output", function(_, grad, y) return div(mul(grad, 0.5), y) end)
--- 1 / √x
elementwise.rsqrt = unary("rsqrt", "output", function(_, grad, y)
  return mul(mul(grad, -0.5), mul(y, mul(y, y)))
end)
--- Hyperbolic tangent.
elementwise.tanh = unary("tanh", "output", function(_, grad, y) return core.tanh_backward(grad, y) end)
--- 1 / (1 + e^-x)
elementwise.sigmoid = unary("sigmoid", "output", function(_, grad, y) return core.sigmoid_backward(grad, y) end)
--- Sine, of radians.
elementwise.sin = unary("sin", "input", function(_, grad, x) return core.sin_backward(grad, x) end)
--- max(x, 0); its derivative at 0 is taken to be 0.
elementwise.relu = unary("relu", "input", function(_, grad, x) return core.relu_backward(grad, x) end)
--- x · σ(x), with σ the sigmoid: SiLU, also called swish.
elementwise.silu = unary("silu", "input", function(_, grad, x) return core.silu_backward(grad, x) end)

local gelu = unary("gelu", "input", function(_, grad, x) return core.gelu_backward(grad, x) end)
local gelu_tanh = unary("gelu_tanh", "input", function(_, grad, x) return core.gelu_tanh_backward(grad, x) end)

--- x · Φ(x) with Φ the normal distribution function: by the error function or, with "tanh" for `approximate`, by
-- x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³))), as GPT-2 has it.
-- @param approximate "none" (the default) or "tanh"
function elementwise.gelu(x, approximate)
  if approximate == nil or approximate == "none" then return gelu(x) end
  if approximate == "tanh" then return gelu_tanh(x) end
  core.raise("gelu: approximate must be none or tanh, got " .. tostring(approximate))
end

local addition = {name = "add", shares = true, backward = function(_, grad) return grad, grad end}

--- a + b
function elementwise.add(a, b)
  local y = add(a, b)
  if needs_grad(a, b) then record(y, addition, {a, b}) end
  return y
end

local subtraction = {
  name = "sub", shares = true,
  backward = function(node, grad) return grad, node.inputs[2] and neg(grad) end,
}

--- a - b
function elementwise.sub(a, b)
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

--- a · b, element by element
function elementwise.mul(a, b)
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

--- a / b
function elementwise.div(a, b)
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

--- a^b
function elementwise.pow(a, b)
  local y = core.pow(a, b)
  if needs_grad(a, b) then
    if is_tensor(b) then
      record(y, power, {a, b}, {a, b})
    else
      record(y, power_of_number, {a}, {a}).exponent = tonumber(b)
    end
  end
  return y
end

-- Where both operands are equal, each gets half of the gradient.
local function share_between(grad, first_wins, second_wins)
  local half = mul(grad, 0.5)
  return where(first_wins, grad, where(second_wins, 0, half)), where(second_wins, grad, where(first_wins, 0, half))
end

local maximum = {
  name = "maximum",
  backward = function(_, grad, a, b) return share_between(grad, core.gt(a, b), core.lt(a, b)) end,
}

--- The larger of a and b, NaN if either is. Where they are equal, each gets half of the gradient.
function elementwise.maximum(a, b)
  local y = core.maximum(a, b)
  if needs_grad(a, b) then record(y, maximum, {a, b}, {a, b}) end
  return y
end

local minimum = {
  name = "minimum",
  backward = function(_, grad, a, b) return share_between(grad, core.lt(a, b), core.gt(a, b)) end,
}

--- The smaller of a and b, NaN if either is. Where they are equal, each gets half of the gradient.
function elementwise.minimum(a, b)
  local y = core.minimum(a, b)
  if needs_grad(a, b) then record(y, minimum, {a, b}, {a, b}) end
  return y
end

--- Comparisons: u8 tensors of 1 and 0, not differentiable.
elementwise.eq, elementwise.ne = core.eq, core.ne
elementwise.lt, elementwise.le = core.lt, core.le
elementwise.gt, elementwise.ge = core.gt, core.ge

local choice = {
  name = "where",
  backward = function(node, grad, condition)
    local inputs = node.inputs
    return inputs[1] and where(condition, grad, 0), inputs[2] and where(condition, 0, grad)
  end,
}

--- a where `condition` (a tensor) is not 0, else b; all three broadcast, a and b may be numbers.
function elementwise.where(condition, a, b)
  local y = where(condition, a, b)
  if needs_grad(a, b) then record(y, choice, {a, b}, {condition}) end
  return y
end

local filling = {
  name = "masked_fill",
  backward = function(_, grad, mask) return where(mask, 0, grad) end,
}

--- x with `value` (a number) where `mask` is not 0.
function elementwise.masked_fill(x, mask, value)
  local y = core.masked_fill(x, mask, value)
  if needs_grad(x) then record(y, filling, {x}, {mask}) end
  return y
end

local clamping = {
  name = "clamp",
  backward = function(node, grad, x)
    if node.low then grad = where(core.lt(x, node.low), 0, grad) end
    if node.high then grad = where(core.gt(x, node.high), 0, grad) end
    return grad
  end,
  shares = true,
}

--- min(max(x, low), high); either limit may be nil. The gradient passes where x is within the limits, ends included.
-- Integers become f32 if a limit is no whole number.
function elementwise.clamp(x, low, high)
  local y = core.clamp(x, low, high)
  if needs_grad(x) then
    local node = record(y, clamping, {x}, {x})
    node.low, node.high = low, high
  end
  return y
end

--- x:add_(b), x:sub_(b), x:mul_(b), x:div_(b): b is a number or a tensor that broadcasts to x; x keeps its dtype.
elementwise.add_, elementwise.sub_ = in_place "add_", in_place "sub_"
elementwise.mul_, elementwise.div_ = in_place "mul_", in_place "div_"

return elementwise

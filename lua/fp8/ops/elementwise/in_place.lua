--- Elementwise operations that change their first operand: x:exp_() writes what x:exp() gives into x, and returns x,
-- which keeps its dtype. Other operands broadcast to x. An integer tensor can't take fractions: that is an error.
local autograd = require "fp8.autograd"
local choice = require "fp8.ops.elementwise.choice"
local composed = require "fp8.ops.elementwise.composed"
local core = require "fp8.core"
local in_place = require "fp8.ops.in_place"

local changing = {}

--- x:neg_() … x:silu_(), x:add_(b) … x:hypot_(b)
--   fp8.tensor({1, -2}):abs_() --> {1, 2}
--   fp8.tensor({1, 2}):add_(3) --> {4, 5}
for _, name in ipairs {
  "neg", "abs", "sign", "floor", "ceil", "round", "trunc", "exp", "expm1", "log", "log2", "log10", "log1p", "sqrt",
  "rsqrt", "sin", "cos", "tan", "tanh", "erf", "sigmoid", "relu", "silu",
  "add", "sub", "mul", "div", "pow", "remainder", "atan2", "hypot",
} do
  changing[name .. "_"] = in_place(name .. "_")
end

--- x:square_(), x:leaky_relu_(negative_slope), x:elu_(alpha)
--   fp8.tensor({3, -4}):square_() --> {9, 16}
--   fp8.tensor({-2, 3}):leaky_relu_(0.5) --> {-1, 3}
function changing.square_(x) return changing.mul_(x, x) end

local leaky_relu, elu = in_place "leaky_relu_", in_place "elu_"

function changing.leaky_relu_(x, slope) return leaky_relu(x, slope == nil and 0.01 or slope) end
function changing.elu_(x, alpha) return elu(x, alpha == nil and 1 or alpha) end

-- One whose result is copied into x.
local function by_copy(name, compute)
  local own_name = name .. "_"
  return function(x, ...)
    for i = 1, math.max(select("#", ...), 1) do autograd.check_in_place(own_name, x, (select(i, ...))) end
    local y = autograd.no_grad(compute, x, ...)
    local dtype, result = core.dtype(x), core.dtype(y)
    if core.dtypes[dtype].kind == "integer" and result ~= dtype and result ~= "u8" then
      core.raise(("%s: the result is %s, which a tensor of dtype %s can't take"):format(own_name, result, dtype))
    end
    return core.copy_(x, y)
  end
end

--- x:reciprocal_(), x:clamp_(low, high), x:masked_fill_(mask, value), x:lerp_(y, weight), x:addcmul_(a, b, options),
-- x:addcdiv_(a, b, options)
--   fp8.tensor({-5, 5}):clamp_(-1, 1) --> {-1, 1}
--   fp8.tensor({0, 10}):lerp_(fp8.tensor {4, 20}, 0.25) --> {1, 12.5}
changing.clamp_, changing.masked_fill_ = by_copy("clamp", choice.clamp), by_copy("masked_fill", choice.masked_fill)
changing.reciprocal_ = by_copy("reciprocal", composed.reciprocal)
changing.lerp_ = by_copy("lerp", composed.lerp)
changing.addcmul_, changing.addcdiv_ = by_copy("addcmul", composed.addcmul), by_copy("addcdiv", composed.addcdiv)

local families = {}
for i, name in ipairs {"choice", "composed", "trigonometry", "limits", "gates"} do
  families[i] = require("fp8.ops.elementwise." .. name)
end

local function function_of(name)
  for _, family in ipairs(families) do
    if family[name] then return family[name] end
  end
end

--- x:acos_() … x:frac_(), x:celu_(alpha) … x:xlogy_(y), x:eq_(y) … x:logical_xor_(y), which leave 1 and 0
--   fp8.tensor({-1.25, 2.5}):frac_() --> {-0.25, 0.5}
--   fp8.tensor({-3, 3.5}):fmod_(2) --> {-1, 1.5}
--   fp8.tensor({1, 2}):eq_(2) --> {0, 1}
for _, name in ipairs {
  "acos", "acosh", "asin", "asinh", "atan", "atanh", "cosh", "sinh", "exp2", "frac",
  "celu", "selu", "clip", "clamp_min", "clamp_max", "hardtanh", "copysign", "fmod", "heaviside", "logit", "nan_to_num",
  "xlogy", "eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor",
} do
  changing[name .. "_"] = by_copy(name, function_of(name))
end
changing.logical_not_ = by_copy("logical_not", core.logical_not)

return changing

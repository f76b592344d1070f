--- Functions of one tensor, element by element. Integers become f32 where the doc comment does not say otherwise.
local core = require "fp8.core"
local differentiable = require "fp8.ops.elementwise.differentiable"

local div, mul, neg, where = core.div, core.mul, core.neg, core.where

local unary = {}

-- One whose derivative is 0 wherever there is one.
local function step(name)
  return differentiable(name, "nothing", function(node, grad)
    return core.zeros(node.shape, {dtype = node.dtype, device = core.device(grad)})
  end)
end

--- -x; integers wrap around.
--   fp8.tensor({1, -2}):neg() --> {-1, 2}
unary.neg = differentiable("neg", "nothing", function(_, grad) return neg(grad) end)

--- |x|, also of integers; its derivative at 0 is taken to be 0.
--   fp8.tensor({-1.5, 2}):abs() --> {1.5, 2}
unary.abs = differentiable("abs", "input", function(_, grad, x)
  return where(core.gt(x, 0), grad, where(core.lt(x, 0), neg(grad), 0))
end)

--- -1, 0 or 1, also of integers; 0 of NaN. Its derivative is 0, as that of the four that follow.
--   fp8.tensor({-3, 0, 5}):sign() --> {-1, 0, 1}
unary.sign = step "sign"

--- The largest whole number up to x. Integers stay as they are, here and in the three that follow.
--   fp8.tensor({-1.5, 1.5}):floor() --> {-2, 1}
unary.floor = step "floor"

--- The smallest whole number from x on.
--   fp8.tensor({-1.5, 1.5}):ceil() --> {-1, 2}
unary.ceil = step "ceil"

--- The nearest whole number, of two the even one.
--   fp8.tensor({0.5, 1.5, 2.6}):round() --> {0, 2, 3}
unary.round = step "round"

--- The whole part.
--   fp8.tensor({-1.5, 1.5}):trunc() --> {-1, 1}
unary.trunc = step "trunc"

--- e^x
--   fp8.tensor({0, 1}):exp() --> {1, 2.7182818}
unary.exp = differentiable("exp", "output", function(_, grad, y) return mul(grad, y) end)

--- e^x - 1, exact near 0.
--   fp8.tensor({0, 1e-10}):expm1() --> {0, 1e-10}
unary.expm1 = differentiable("expm1", "output")

--- Natural logarithm: -inf of 0, NaN below.
--   fp8.tensor({1, 10}):log() --> {0, 2.3025851}
unary.log = differentiable("log", "input", function(_, grad, x) return div(grad, x) end)

--- Logarithm to the base 2.
--   fp8.tensor({1, 8}):log2() --> {0, 3}
unary.log2 = differentiable("log2", "input")

--- Logarithm to the base 10.
--   fp8.tensor({1, 1000}):log10() --> {0, 3}
unary.log10 = differentiable("log10", "input")

--- ln(1 + x), exact near 0.
--   fp8.tensor({0, 1e-10}):log1p() --> {0, 1e-10}
unary.log1p = differentiable("log1p", "input")

--- Square root; NaN below 0.
--   fp8.tensor({4, 9}):sqrt() --> {2, 3}
unary.sqrt = differentiable("sqrt", "output", function(_, grad, y) return div(mul(grad, 0.5), y) end)

--- 1 / √x
--   fp8.tensor({4, 0.25}):rsqrt() --> {0.5, 2}
unary.rsqrt = differentiable("rsqrt", "output", function(_, grad, y)
  return mul(mul(grad, -0.5), mul(y, mul(y, y)))
end)

--- Sine, of radians.
--   fp8.tensor({0, math.pi / 6}):sin() --> {0, 0.5}
unary.sin = differentiable("sin", "input")

--- Cosine, of radians.
--   fp8.tensor({0, math.pi / 3}):cos() --> {1, 0.5}
unary.cos = differentiable("cos", "input")

--- Tangent, of radians.
--   fp8.tensor({0, math.pi / 4}):tan() --> {0, 1}
unary.tan = differentiable("tan", "output")

--- Hyperbolic tangent.
--   fp8.tensor({0, 1}):tanh() --> {0, 0.7615942}
unary.tanh = differentiable("tanh", "output")

--- The error function, 2/√π times the integral of e^(-t²) from 0 to x.
--   fp8.tensor({0, 1}):erf() --> {0, 0.8427008}
unary.erf = differentiable("erf", "input")

--- 1 / (1 + e^-x)
--   fp8.tensor({0, 2}):sigmoid() --> {0.5, 0.8807971}
unary.sigmoid = differentiable("sigmoid", "output")

--- Checks of all dtypes: u8 tensors of 1 and 0, not differentiable. logical_not is 1 where x is 0.
--   fp8.tensor({1, 0 / 0, math.huge}):isnan() --> {0, 1, 0}
--   fp8.tensor({1, 0 / 0, math.huge}):isinf() --> {0, 0, 1}
--   fp8.tensor({1, 0 / 0, math.huge}):isfinite() --> {1, 0, 0}
--   fp8.tensor({1, 0, -2}):logical_not() --> {0, 1, 0}
unary.isnan, unary.isinf, unary.isfinite = core.isnan, core.isinf, core.isfinite
unary.logical_not = core.logical_not

return unary

--- Random numbers into a tensor that is there already: of the generator that fp8.manual_seed sets, drawn in f32 and
-- rounded once. A tensor that requires a gradient can be filled only inside fp8.no_grad, or by fp8.nn.init.
local check = require "fp8.ops.check"
local check_in_place = require("fp8.autograd").check_in_place
local core = require "fp8.core"

local raise = core.raise

local random = {}

-- A parameter, which must be a finite number, or its default.
local function check_number(name, parameter, value, default)
  if value == nil then return default end
  if type(value) ~= "number" or value - value ~= 0 then
    raise(("%s: %s must be a finite number, got %s"):format(name, parameter, tostring(value)))
  end
  return value
end

local function check_float(name, x)
  check.tensor(name, 1, x)
  if core.dtypes[core.dtype(x)].kind == "integer" then
    raise(("%s: a floating-point tensor is needed, got %s"):format(name, core.dtype(x)))
  end
  check_in_place(name, x)
end

local function drawn(x, draw) return draw(core.shape(x), {dtype = "f32", device = core.device(x)}) end

--- x:normal_([mean [, std]]): normal numbers of mean 0 and standard deviation 1 if these are left out.
--   fp8.zeros(3):normal_(5, 0) --> {5, 5, 5}
function random.normal_(x, mean, std)
  check_float("normal_", x)
  mean, std = check_number("normal_", "mean", mean, 0), check_number("normal_", "std", std, 1)
  if std < 0 then raise(("normal_: std must be at least 0, got %s"):format(std)) end
  local numbers = drawn(x, core.randn)
  if std ~= 1 then core.mul_(numbers, std) end
  if mean ~= 0 then core.add_(numbers, mean) end
  core.copy_(x, numbers)
  return x
end

--- x:uniform_([low [, high]]): uniform numbers from low (0 if left out) up to below high (1).
--   fp8.zeros(3):uniform_(2, 2) --> {2, 2, 2}
function random.uniform_(x, low, high)
  check_float("uniform_", x)
  low, high = check_number("uniform_", "low", low, 0), check_number("uniform_", "high", high, 1)
  if low > high then raise(("uniform_: low must be at most high, got %s and %s"):format(low, high)) end
  local numbers = drawn(x, core.rand)
  if high - low ~= 1 then core.mul_(numbers, high - low) end
  if low ~= 0 then core.add_(numbers, low) end
  -- What rounding brought up to `high` becomes `low`, as in PyTorch.
  local rounded = core.to(numbers, {dtype = core.dtype(x)})
  core.copy_(x, core.masked_fill(rounded, core.ge(core.to(rounded, {dtype = "f32"}), high), low))
  return x
end

--- x:bernoulli_([p]): each element 1 with probability p (0.5 if left out), else 0; of any dtype.
--   fp8.zeros(3):bernoulli_(1) --> {1, 1, 1}
function random.bernoulli_(x, p)
  check.tensor("bernoulli_", 1, x)
  check_in_place("bernoulli_", x)
  p = check_number("bernoulli_", "p", p, 0.5)
  if p < 0 or p > 1 then raise(("bernoulli_: p must be from 0 to 1, got %s"):format(p)) end
  core.copy_(x, core.lt(drawn(x, core.rand), p))
  return x
end

--- x:bernoulli(): for each element of x, a probability, 1 so often and else 0, in x's dtype; not differentiable. A
-- probability that is NaN or not from 0 to 1 gives what comparing it with a uniform number gives.
--   fp8.tensor({0, 1}):bernoulli() --> {0, 1}
function random.bernoulli(x)
  check.tensor("bernoulli", 1, x)
  if core.dtypes[core.dtype(x)].kind == "integer" then
    raise("bernoulli: floating-point probabilities are needed, got " .. core.dtype(x))
  end
  return core.to(core.lt(drawn(x, core.rand), x), {dtype = core.dtype(x)})
end

return random

--- Running sums and products along a dimension.
local autograd = require "fp8.autograd"
local core = require "fp8.core"

local needs_grad, record = autograd.needs_grad, autograd.record

local scan = {}

-- A tensor without dimensions is one element in a row.
local function scanned(compute, x, dimension, reverse)
  if not core.is_tensor(x) or core.rank(x) > 0 then return compute(x, dimension, reverse) end
  return core.view(compute(core.view(x, {1}), dimension, reverse), {})
end

local summing = {
  name = "cumsum",
  backward = function(node, grad) return scanned(core.cumsum, grad, node.dimension, true) end,
}

--- x:cumsum(dim): the sum of the elements up to each along a dimension; of integers as i64, which wraps around. Sums of
-- floats are kept in double, each result is rounded once.
--   fp8.tensor({{1, 2, 3}, {4, 5, 6}}):cumsum(2) --> {{1, 3, 6}, {4, 9, 15}}
function scan.cumsum(x, dimension)
  local y = scanned(core.cumsum, x, dimension)
  if needs_grad(x) then record(y, summing, {x}).dimension = dimension end
  return y
end

-- For an element x, Σ grad · y over all products y from it on, over x; where x is the first 0 of its row, that sum
-- with 1 in place of x; and 0 behind that.
local multiplying = {
  name = "cumprod",
  backward = function(node, grad, x)
    local dimension = node.dimension
    local function sums_from_here(factors)
      return scanned(core.cumsum, core.mul(grad, scanned(core.cumprod, factors, dimension)), dimension, true)
    end
    grad, x = core.to(grad, {dtype = "f32"}), core.to(x, {dtype = "f32"})
    local is_zero = core.eq(x, 0)
    local zeros = scanned(core.cumsum, is_zero, dimension)
    local is_first = core.logical_and(is_zero, core.eq(zeros, 1))
    local at_first = core.where(is_first, sums_from_here(core.where(is_first, 1, x)), 0)
    return core.where(core.eq(zeros, 0), core.div(sums_from_here(x), x), at_first)
  end,
}

--- x:cumprod(dim): the product of the elements up to each along a dimension; of integers as i64, which wraps around. No
-- product of floats overflows or vanishes on the way, each result is rounded once.
--   fp8.tensor({1, 2, 3, 4}):cumprod(1) --> {1, 2, 6, 24}
function scan.cumprod(x, dimension)
  local y = scanned(core.cumprod, x, dimension)
  if needs_grad(x) then record(y, multiplying, {x}, {x}).dimension = dimension end
  return y
end

-- Written into x, which has to have the result's dtype.
local function in_place(name, compute)
  return function(x, dimension)
    autograd.check_in_place(name, x)
    local y = compute(x, dimension)
    if core.dtype(x) ~= core.dtype(y) then
      core.raise(("%s: the result is %s, which a tensor of dtype %s can't take"):format(name, core.dtype(y),
        core.dtype(x)))
    end
    return core.copy_(x, y)
  end
end

--- x:cumsum_(dim), x:cumprod_(dim): written into x; of integers only i64 can take it.
--   fp8.tensor({1, 2, 3}):cumsum_(1) --> {1, 3, 6}
--   fp8.tensor({1, 2, 3}):cumprod_(1) --> {1, 2, 6}
scan.cumsum_, scan.cumprod_ = in_place("cumsum_", scan.cumsum), in_place("cumprod_", scan.cumprod)

return scan

--- Reductions. `dims` is a dimension, a list of them, or nil for all; with `keepdim` they stay with size 1.
local core = require "fp8.core"
local as_float = require "fp8.ops.as_float"
local autograd = require "fp8.autograd"

local elementwise = require "fp8.ops.elementwise"
local in_float32 = require "fp8.ops.in_float32"

local needs_grad, record = autograd.needs_grad, autograd.record
local contiguous, expand, mul, shape_of, view = core.contiguous, core.expand, core.mul, core.shape, core.view
local where = core.where

local reduce = {}

-- `shape` with size 1 for the reduced dimensions.
local function kept_shape(shape, dimensions)
  local kept, rank = {}, #shape
  for i = 1, rank do kept[i] = dimensions and shape[i] or 1 end
  if type(dimensions) == "number" then dimensions = {dimensions} end
  for _, dimension in ipairs(rank > 0 and dimensions or {}) do
    kept[dimension < 0 and dimension + rank + 1 or dimension] = 1
  end
  return kept
end

local function remember(node, x, dimensions)
  node.input_shape = shape_of(x)
  node.kept_shape = kept_shape(node.input_shape, dimensions)
end

-- A tensor of the output's shape with its reduced dimensions back, as size 1.
local function unreduce(node, tensor) return view(contiguous(tensor), node.kept_shape) end

local summation = {
  name = "sum", shares = true,
  backward = function(node, grad) return expand(unreduce(node, grad), node.input_shape) end,
}

--- Sum; of integers as i64.
--   fp8.tensor({{1, 2}, {3, 4}}):sum(2) --> {3, 7}
function reduce.sum(x, dimensions, keepdim)
  local y = core.sum(x, dimensions, keepdim)
  if needs_grad(x) then remember(record(y, summation, {x}), x, dimensions) end
  return y
end

local averaging = {
  name = "mean", shares = true,
  backward = function(node, grad)
    return expand(unreduce(node, mul(grad, 1 / node.count)), node.input_shape)
  end,
}

--- Mean; of integers as f32.
--   fp8.tensor({{1, 2}, {3, 4}}):mean() --> 2.5
function reduce.mean(x, dimensions, keepdim)
  local y = core.mean(x, dimensions, keepdim)
  if needs_grad(x) then
    local node = record(y, averaging, {x})
    remember(node, x, dimensions)
    node.count = core.numel(x) / core.numel(y)
  end
  return y
end

local multiplication = {
  name = "prod",
  backward = function(node, grad, x, y)
    -- The product of the others: of those that are not 0, where one is; 0 where two are.
    local is_zero = core.eq(x, 0)
    local zeros = unreduce(node, core.sum(is_zero, node.dimensions, true))
    local others = unreduce(node, core.prod(core.where(is_zero, 1, x), node.dimensions, true))
    local beside_zero = where(core.eq(zeros, 1), others, 0)
    local slope = where(is_zero, beside_zero, where(core.eq(zeros, 0), core.div(unreduce(node, y), x), 0))
    return mul(unreduce(node, grad), slope)
  end,
}

--- Product; of integers as i64, which wraps around; 1 of no elements.
--   fp8.tensor({{1, 2}, {3, 4}}):prod(2) --> {2, 12}
function reduce.prod(x, dimensions, keepdim)
  local y = core.prod(x, dimensions, keepdim)
  if needs_grad(x) then
    local node = record(y, multiplication, {x}, {x, y})
    node.dimensions = dimensions
    remember(node, x, dimensions)
  end
  return y
end

-- Elements that share the extremum share its gradient in equal parts. The others get 0, even if it is not finite; there
-- are no others where the extremum is NaN.
local extremum = {
  name = "max or min",
  backward = function(node, grad, x, y)
    local extreme = unreduce(node, y)
    local count = view(core.sum(core.eq(x, extreme), node.dimensions, true), node.kept_shape)
    return core.where(node.is_other(x, extreme), 0, core.div(unreduce(node, grad), count))
  end,
}

local function record_extremum(y, x, dimensions, is_other)
  local node = record(y, extremum, {x}, {x, y})
  node.dimensions, node.is_other = dimensions, is_other
  remember(node, x, dimensions)
end

--- Largest value, NaN if there is one. Equal largest elements share the gradient.
--   fp8.tensor({{1, 2}, {3, 4}}):max(1, true) --> {{3, 4}}
function reduce.max(x, dimensions, keepdim)
  local y = core.max(x, dimensions, keepdim)
  if needs_grad(x) then record_extremum(y, x, dimensions, core.lt) end
  return y
end

--- Smallest value, NaN if there is one. Equal smallest elements share the gradient.
--   fp8.tensor({{1, 2}, {3, 4}}):min() --> 1
function reduce.min(x, dimensions, keepdim)
  local y = core.min(x, dimensions, keepdim)
  if needs_grad(x) then record_extremum(y, x, dimensions, core.gt) end
  return y
end

local norming = {
  name = "norm",
  backward = function(node, grad, x, y)
    -- sign(x) · (|x| / norm)^(p - 1), and 0 where x or the norm is
    local norm = unreduce(node, y)
    local share = core.div(x, where(core.eq(norm, 0), 1, norm))
    if node.p ~= 2 then
      local power = core.pow(core.abs(share), node.p - 1)
      share = where(core.logical_or(core.eq(x, 0), core.eq(norm, 0)), 0, mul(core.sign(x), power))
    end
    return mul(unreduce(node, grad), share)
  end,
}

local counting = {
  name = "norm",
  backward = function(node, grad)
    return core.zeros(node.input_shape, {dtype = node.dtype, device = core.device(grad)})
  end,
}

-- How many elements are not 0.
local function count_of(x, dimensions, keepdim)
  local y = core.to(core.sum(core.ne(x, 0), dimensions, keepdim), {dtype = core.dtype(x)})
  if needs_grad(x) then record(y, counting, {x}).input_shape = shape_of(x) end
  return y
end

-- √ Σ x², whose squares neither overflow nor vanish, or (Σ |x|^p)^(1/p), of powers that are at most 1.
local function norm_of(x, p, dimensions, keepdim)
  local y
  if p == 2 or core.numel(x) == 0 then
    y = core.norm(x, dimensions, keepdim)
  else
    local magnitudes = core.abs(x)
    local unit = (p > 0 and core.max or core.min)(magnitudes, dimensions, true)
    unit = where(core.logical_and(core.isfinite(unit), unit), unit, 1)
    local sum = core.sum(core.pow(core.div(magnitudes, unit), p), dimensions, keepdim)
    y = mul(core.pow(sum, 1 / p), view(unit, shape_of(sum)))
  end
  if needs_grad(x) then
    local node = record(y, norming, {x}, {x, y})
    node.p = p
    remember(node, x, dimensions)
  end
  return y
end

--- x:norm([p [, dims [, keepdim]]]): the root of the sum of squares (p = 2, if it is left out), or for another p
-- the p-th root of the sum of |x|^p; for math.huge the largest |x|, for -math.huge the smallest, for 0 how many are not
-- 0. No power overflows or vanishes on the way. Integers give f32; where the norm is 0, so is its derivative.
--   fp8.tensor({3, -4}):norm() --> 5
--   fp8.tensor({{3, -4}, {6, 8}}):norm(1, 2) --> {7, 14}
function reduce.norm(x, p, dimensions, keepdim)
  if p == nil then p = 2 end
  if type(p) ~= "number" or p ~= p then core.raise("norm: p must be a number, got " .. tostring(p)) end
  x = as_float(x)
  if p == math.huge then return reduce.max(elementwise.abs(x), dimensions, keepdim) end
  if p == -math.huge then return reduce.min(elementwise.abs(x), dimensions, keepdim) end
  if p == 1 then return reduce.sum(elementwise.abs(x), dimensions, keepdim) end
  if p == 0 then return count_of(x, dimensions, keepdim) end
  if p == 2 then return norm_of(x, p, dimensions, keepdim) end
  return in_float32(norm_of, x, p, dimensions, keepdim)
end

--- Position of the first largest element (i64, from 0, row-major over the reduced dimensions). Not differentiable.
--   fp8.tensor({{1, 5}, {7, 4}}):argmax(2) --> {1, 0}
reduce.argmax = core.argmax

--- Position of the first smallest element, as argmax; NaN counts as smallest. Not differentiable.
--   fp8.tensor({{1, 5}, {7, 4}}):argmin(2) --> {0, 1}
function reduce.argmin(x, dimensions, keepdim)
  if core.dtypes[core.dtype(x)].kind ~= "integer" then return core.argmax(core.neg(x), dimensions, keepdim) end
  -- -1 - x exchanges the ends of the range of i64, where -x overflows.
  return core.argmax(core.sub(-1, core.to(x, {dtype = "i64"})), dimensions, keepdim)
end

return reduce

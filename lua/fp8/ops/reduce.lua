--- Reductions. `dims` is a dimension, a list of them, or nil for all; with `keepdim` they stay with size 1.
local core = require "fp8.core"
local autograd = require "fp8.autograd"

local needs_grad, record = autograd.needs_grad, autograd.record
local contiguous, expand, mul, shape_of, view = core.contiguous, core.expand, core.mul, core.shape, core.view

local reduce = {}

-- `shape` with size 1 for the reduced dimensions.
local function kept_shape(shape, dimensions)
  local kept, rank = {}, #shape
  for i = 1, rank do kept[i] = dimensions and shape[i] or 1 end
  if type(dimensions) == "number" then dimensions = {dimensions} end
  for _, dimension in ipairs(dimensions or {}) do
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

-- Elements that share the extremum share its gradient in equal parts.
local extremum = {
  name = "max or min",
  backward = function(node, grad, x, y)
    local is_extremum = core.eq(x, unreduce(node, y))
    local count = view(core.sum(is_extremum, node.dimensions, true), node.kept_shape)
    return mul(is_extremum, core.div(unreduce(node, grad), count))
  end,
}

local function record_extremum(y, x, dimensions)
  local node = record(y, extremum, {x}, {x, y})
  node.dimensions = dimensions
  remember(node, x, dimensions)
end

--- Largest value, NaN if there is one. Equal largest elements share the gradient.
--   fp8.tensor({{1, 2}, {3, 4}}):max(1, true) --> {{3, 4}}
function reduce.max(x, dimensions, keepdim)
  local y = core.max(x, dimensions, keepdim)
  if needs_grad(x) then record_extremum(y, x, dimensions) end
  return y
end

--- Smallest value, NaN if there is one. Equal smallest elements share the gradient.
--   fp8.tensor({{1, 2}, {3, 4}}):min() --> 1
function reduce.min(x, dimensions, keepdim)
  local y = core.min(x, dimensions, keepdim)
  if needs_grad(x) then record_extremum(y, x, dimensions) end
  return y
end

--- Position of the first largest element (i64, from 0, row-major over the reduced dimensions). Not differentiable.
--   fp8.tensor({{1, 5}, {7, 4}}):argmax(2) --> {1, 0}
reduce.argmax = core.argmax

return reduce

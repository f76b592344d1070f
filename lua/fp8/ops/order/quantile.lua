--- Quantiles.
local as_float = require "fp8.ops.as_float"
local check = require "fp8.ops.check"
local core = require "fp8.core"
local elementwise = require "fp8.ops.elementwise"
local in_float32 = require "fp8.ops.in_float32"
local index = require "fp8.ops.index"
local arrange = require "fp8.ops.arrange"
local sort = require "fp8.ops.order.sort"
local view = require "fp8.ops.view"

local raise = core.raise

local quantile = {}

local function between(below, above, weight)
  local y = elementwise.lerp(below, above, weight)
  return elementwise.where(core.eq(below, above), below, y) -- of infinities, too
end

-- By PyTorch's names, of a vector of ranks, the positions between which the results lie: at(ranks) are the elements at
-- whole ones, shaped(weights) goes along with these.
local interpolations = {
  linear = function(ranks, at, shaped)
    local below = core.floor(ranks)
    return between(at(below), at(core.ceil(ranks)), shaped(core.sub(ranks, below)))
  end,
  midpoint = function(ranks, at) return between(at(core.floor(ranks)), at(core.ceil(ranks)), 0.5) end,
  lower = function(ranks, at) return at(core.floor(ranks)) end,
  higher = function(ranks, at) return at(core.ceil(ranks)) end,
  nearest = function(ranks, at) return at(core.round(ranks)) end,
}

-- q as an f32 vector.
local function checked_levels(x, q)
  if type(q) == "number" then
    if not (q >= 0 and q <= 1) then raise(("quantile: q must be from 0 to 1, got %.14g"):format(q)) end
    return core.full({1}, q, {dtype = "f32", device = core.device(x)})
  end
  if not core.is_tensor(q) then raise("quantile: q must be a number or a tensor, got " .. type(q)) end
  if core.rank(q) > 1 or core.dtypes[core.dtype(q)].kind == "integer" then
    raise "quantile: q must have a float dtype and at most one dimension"
  end
  local levels = core.view(core.contiguous(core.to(q, {dtype = "f32"})), {-1})
  if core.device(q) == "cpu" and core.numel(q) > 0 and
    core.item(core.sum(core.logical_and(core.ge(levels, 0), core.le(levels, 1)))) < core.numel(q) then
    raise "quantile: q must be from 0 to 1"
  end
  return levels
end

-- Of a dimension of an f32 tensor, as many positions there as there are levels.
local function quantiles(x, levels, dimension, interpolate)
  local values = sort.sort(x, dimension)
  local length, shape = core.size(x, dimension), {}
  for i = 1, core.rank(x) do shape[i] = i == dimension and -1 or 1 end
  local function at(ranks) return index.index_select(values, dimension, core.to(ranks, {dtype = "i64"})) end
  local function shaped(weights) return core.view(weights, shape) end
  local y = interpolate(core.mul(levels, length - 1), at, shaped)
  local last = view.narrow(values, dimension, length, 1)
  return elementwise.where(core.isnan(last), last, y)
end

--- x:quantile(q [, dim [, keepdim [, interpolation]]]): where a share q, from 0 to 1, of the elements is below, of a
-- dimension or of all; between two elements by interpolation "linear" (if left out), "lower", "higher", "midpoint" or
-- "nearest". q is a number, or a tensor whose dimension becomes the result's first. NaN where there is one; of integers
-- f32.
--   fp8.tensor({4, 1, 3, 2}):quantile(0.5) --> 2.5
--   fp8.tensor({4, 1, 3, 2}):quantile(fp8.tensor {0, 0.4, 1}, 1, false, "lower") --> {1, 2, 4}
function quantile.quantile(x, q, dimension, keepdim, interpolation)
  check.tensor("quantile", 1, x)
  if keepdim ~= nil and type(keepdim) ~= "boolean" then
    raise("quantile: keepdim must be true or false, got " .. type(keepdim))
  end
  local interpolate = interpolations[interpolation == nil and "linear" or interpolation]
  if not interpolate then
    raise(('quantile: interpolation must be "linear", "lower", "higher", "midpoint" or "nearest", got %s'):format(
      tostring(interpolation)))
  end
  local kept = core.shape(x)
  if #kept == 0 then x = view.view(x, {1}) end
  if dimension == nil then
    for i = 1, #kept do kept[i] = 1 end
    x, dimension = view.reshape(x, -1), 1
  else
    dimension = check.dimension("quantile", x, dimension)
    if #kept > 0 then kept[dimension] = 1 end
  end
  if core.size(x, dimension) == 0 then raise "quantile: no elements" end
  local levels = checked_levels(x, q)
  x = as_float(x)
  local y = in_float32(function(values) return quantiles(values, levels, dimension, interpolate) end, x)
  local is_list = core.is_tensor(q) and core.rank(q) == 1
  if not is_list then return keepdim and view.reshape(y, kept) or view.squeeze(y, dimension) end
  y = arrange.movedim(y, dimension, 1)
  if not keepdim then return y end
  table.insert(kept, 1, core.numel(q))
  return view.reshape(y, kept)
end

return quantile

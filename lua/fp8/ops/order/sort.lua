--- Sorting along a dimension (the last one if left out), and what sorting finds: the largest, the smallest, the one in
-- the middle. NaN is larger than all numbers, and equal elements stay in their order, on every device. The positions
-- that come out count from 0, as `gather` and `index_select` take them. Values pass gradients on to where they come
-- from.
local autograd = require "fp8.autograd"
local check = require "fp8.ops.check"
local core = require "fp8.core"
local added_up = require "fp8.ops.index.added_up"
local index = require "fp8.ops.index"
local view = require "fp8.ops.view"

local needs_grad, raise, record = autograd.needs_grad, core.raise, autograd.record

local sort = {}

local function flag(name, what, value, fallback)
  if value == nil then return fallback end
  if type(value) ~= "boolean" then raise(("%s: %s must be true or false, got %s"):format(name, what, type(value))) end
  return value
end

local sorting = {
  name = "sort",
  backward = function(node, grad, positions)
    return added_up(node.input_shape, node.dimension, positions, grad)
  end,
}

-- The first `count` in order, or all, of a tensor that has dimensions.
local function first_of(x, dimension, descending, count)
  local values, positions = core.sort(x, dimension, descending, count)
  if needs_grad(x) then
    local node = record(values, sorting, {x}, {positions})
    node.input_shape, node.dimension = core.shape(x), dimension
  end
  return values, positions
end

-- f(x, dimension) with the dimension checked; a tensor without dimensions is one element in a row meanwhile, and what
-- comes out has none again.
local function along(name, x, dimension, f)
  check.tensor(name, 1, x)
  if core.rank(x) > 0 then return f(x, check.dimension(name, x, dimension or -1)) end
  local row = view.view(x, {1})
  local first, second = f(row, check.dimension(name, row, dimension or -1))
  return view.reshape(first, {}), second and view.reshape(second, {})
end

--- x:sort([dim [, descending [, stable]]]): values in ascending (or, with true, descending) order, and their positions,
-- i64. The order of equal elements is kept whether `stable` is asked for or not.
--   fp8.tensor({3, 1, 2}):sort() --> {1, 2, 3}
--   select(2, fp8.tensor({3, 1, 2}):sort(1, true)) --> {0, 2, 1}
function sort.sort(x, dimension, descending, stable)
  descending = flag("sort", "descending", descending, false)
  flag("sort", "stable", stable)
  return along("sort", x, dimension, function(row, place) return first_of(row, place, descending) end)
end

--- x:argsort([dim [, descending [, stable]]]): the positions that x:sort gives.
--   fp8.tensor({3, 1, 2}):argsort() --> {1, 2, 0}
function sort.argsort(x, dimension, descending, stable)
  descending = flag("argsort", "descending", descending, false)
  flag("argsort", "stable", stable)
  return (along("argsort", x, dimension, function(row, place) return core.argsort(row, place, descending) end))
end

--- x:msort(): the values of x:sort(1).
--   fp8.tensor({{3, 1}, {2, 5}}):msort() --> {{2, 1}, {3, 5}}
function sort.msort(x)
  return (along("msort", x, 1, function(row, place) return first_of(row, place, false) end))
end

local function check_count(name, row, dimension, count, least)
  check.whole(name, "k", count, least)
  local length = core.size(row, dimension)
  if count > length then
    raise(("%s: k is %d, of a dimension of %d"):format(name, count, length))
  end
end

--- x:topk(k [, dim [, largest [, sorted]]]): the k largest (or, with false, smallest) and their positions, i64, in
-- order whether `sorted` is asked for or not; of equal ones those that come first.
--   fp8.tensor({3, 1, 2}):topk(2) --> {3, 2}
--   select(2, fp8.tensor({3, 1, 2}):topk(2, 1, false)) --> {1, 2}
function sort.topk(x, k, dimension, largest, sorted)
  largest = flag("topk", "largest", largest, true)
  flag("topk", "sorted", sorted)
  if core.is_tensor(x) and core.rank(x) == 0 and k == 0 then raise "topk: k is 0, of a tensor without dimensions" end
  return along("topk", x, dimension, function(row, place)
    check_count("topk", row, place, k, 0)
    return first_of(row, place, largest, k)
  end)
end

local function without(dimension, keepdim, values, positions)
  if keepdim then return values, positions end
  return view.squeeze(values, dimension), view.squeeze(positions, dimension)
end

--- x:kthvalue(k [, dim [, keepdim]]): the k-th smallest, k from 1, and its position, i64.
--   fp8.tensor({{3, 1, 2}, {6, 5, 4}}):kthvalue(2) --> {2, 5}
function sort.kthvalue(x, k, dimension, keepdim)
  keepdim = flag("kthvalue", "keepdim", keepdim, false)
  return along("kthvalue", x, dimension, function(row, place)
    check_count("kthvalue", row, place, k, 1)
    local values, positions = first_of(row, place, false, k)
    local last = core.full({1}, k - 1, {dtype = "i64", device = core.device(x)})
    return without(place, keepdim or core.rank(x) == 0, index.index_select(values, place, last),
      core.index_select(positions, place, last))
  end)
end

-- The lower one in the middle of a dimension that has elements, which stays with size 1; NaN, and the first one's
-- position, where there is one.
local function middle(x, dimension)
  local values, positions = first_of(x, dimension, false)
  local length, broken = core.size(x, dimension), core.sum(core.isnan(x), dimension, true)
  local place = core.where(core.eq(broken, 0), math.floor((length - 1) / 2), core.sub(length, broken))
  return index.gather(values, dimension, place), core.gather(positions, dimension, place)
end

local halving = {
  name = "median",
  backward = function(_, grad, x, y)
    local is_median = core.logical_or(core.eq(x, y), core.logical_and(core.isnan(x), core.isnan(y)))
    return core.where(is_median, core.div(grad, core.sum(is_median)), 0)
  end,
}

local function median_of_all(x)
  local row = core.view(core.contiguous(x), {-1})
  if core.numel(x) == 0 then
    if core.dtypes[core.dtype(x)].kind == "integer" then raise "median: no elements, and no integer is NaN" end
    return core.full({}, 0 / 0, {dtype = core.dtype(x), device = core.device(x)})
  end
  local y = core.view(middle(row, 1), {})
  if needs_grad(x) then record(y, halving, {x}, {x, y}) end
  return y
end

--- x:median([dim [, keepdim]]): the lower one of the two in the middle, and with a dimension its position, i64; NaN
-- where there is one. Without a dimension elements that are the median share the gradient.
--   fp8.tensor({5, 1, 4, 2}):median() --> 2
--   select(2, fp8.tensor({{5, 1, 4}, {0, 9, 3}}):median(2)) --> {2, 2}
function sort.median(x, dimension, keepdim)
  check.tensor("median", 1, x)
  keepdim = flag("median", "keepdim", keepdim, false)
  if dimension == nil then
    if keepdim then raise "median: keepdim needs a dimension" end
    return median_of_all(x)
  end
  return along("median", x, dimension, function(row, place)
    if core.size(row, place) == 0 then raise(("median: dimension %d has no elements"):format(place)) end
    return without(place, keepdim or core.rank(x) == 0, middle(row, place))
  end)
end

return sort

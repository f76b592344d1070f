--- Statistics of what is not NaN, and extremes by PyTorch's other names.
local autograd = require "fp8.autograd"
local check = require "fp8.ops.check"
local core = require "fp8.core"
local elementwise = require "fp8.ops.elementwise"
local in_float32 = require "fp8.ops.in_float32"
local index = require "fp8.ops.index"
local reduce = require "fp8.ops.reduce"
local select = require "fp8.ops.order.select"
local sort = require "fp8.ops.order.sort"
local view = require "fp8.ops.view"

local omitting = {}

--- x:nansum([dims [, keepdim]]): the sum of the elements that are not NaN.
--   fp8.tensor({1, 0 / 0, 2}):nansum() --> 3
function omitting.nansum(x, dimensions, keepdim)
  check.tensor("nansum", 1, x)
  if core.dtypes[core.dtype(x)].kind == "integer" then return reduce.sum(x, dimensions, keepdim) end
  return reduce.sum(elementwise.masked_fill(x, core.isnan(x), 0), dimensions, keepdim)
end

local function mean_of_numbers(x, dimensions, keepdim)
  local count = core.sum(core.logical_not(core.isnan(x)), dimensions, keepdim)
  return elementwise.div(omitting.nansum(x, dimensions, keepdim), core.to(count, {dtype = "f32"}))
end

--- x:nanmean([dims [, keepdim]]): the mean of the elements that are not NaN; NaN of none.
--   fp8.tensor({1, 0 / 0, 2}):nanmean() --> 1.5
function omitting.nanmean(x, dimensions, keepdim)
  check.tensor("nanmean", 1, x)
  if core.dtypes[core.dtype(x)].kind == "integer" then return reduce.mean(x, dimensions, keepdim) end
  return in_float32(mean_of_numbers, x, dimensions, keepdim)
end

--- x:nanmedian([dim [, keepdim]]): x:median of the elements that are not NaN; NaN of none. Without a dimension it waits
-- for the device, to learn how many there are.
--   fp8.tensor({5, 0 / 0, 1, 4, 2}):nanmedian() --> 2
--   fp8.tensor({{5, 0 / 0, 4}, {0, 9, 3}}):nanmedian(2) --> {4, 3}
function omitting.nanmedian(x, dimension, keepdim)
  check.tensor("nanmedian", 1, x)
  if dimension == nil then
    if core.dtypes[core.dtype(x)].kind ~= "integer" then
      x = select.masked_select(x, core.logical_not(core.isnan(x)))
    end
    return sort.median(x, nil, keepdim)
  end
  local rows = core.rank(x) == 0 and view.view(x, {1}) or x
  dimension = check.dimension("nanmedian", rows, dimension)
  if core.size(rows, dimension) == 0 then core.raise(("nanmedian: dimension %d has no elements"):format(dimension)) end
  local _, order = autograd.no_grad(sort.sort, rows, dimension) -- NaNs are last
  local count = core.sum(core.logical_not(core.isnan(rows)), dimension, true)
  -- (count - 1) / 2 of whole numbers, rounded down; 0 where all are NaN.
  local half = core.floor(core.mul(core.to(core.sub(count, 1), {dtype = "f32"}), 0.5))
  local positions = core.gather(order, dimension, core.to(core.relu(half), {dtype = "i64"}))
  local values = index.gather(rows, dimension, positions)
  if core.rank(x) == 0 then return view.view(values, {}), view.view(positions, {}) end
  if keepdim then return values, positions end
  return view.squeeze(values, dimension), view.squeeze(positions, dimension)
end

--- x:amax([dims [, keepdim]]), x:amin([dims [, keepdim]]): as x:max and x:min.
--   fp8.tensor({{1, 2}, {3, 4}}):amax(1) --> {3, 4}
--   fp8.tensor({{1, 2}, {3, 4}}):amin() --> 1
omitting.amax, omitting.amin = reduce.max, reduce.min

--- x:aminmax([dims [, keepdim]]): the smallest and the largest.
--   {fp8.tensor({3, 1, 2}):aminmax()} --> {1, 3}
function omitting.aminmax(x, dimensions, keepdim)
  return reduce.min(x, dimensions, keepdim), reduce.max(x, dimensions, keepdim)
end

return omitting

--- How many elements of a tensor are in which bin. Counts are exact, whatever the order in which a GPU adds them up;
-- weights add up in f32, in the order of the elements on the CPU and, after fp8.set_deterministic(true), on a GPU. Not
-- differentiable.
local check = require "fp8.ops.check"
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local added_up = require "fp8.ops.index.added_up"
local create = require "fp8.ops.create"
local shape_text = require("fp8.shapes").text

local raise = core.raise

local count = {}

local function is_finite(value) return type(value) == "number" and value - value == 0 end

-- The smallest and the largest element; the device is waited for.
local function extremes(name, x)
  if core.numel(x) == 0 then return 0, 1 end
  local low, high = tonumber(core.item(core.min(x))), tonumber(core.item(core.max(x)))
  if not (is_finite(low) and is_finite(high)) then
    raise(("%s: the range of the elements is not finite: %g to %g"):format(name, low, high))
  end
  return low, high
end

-- bins + 1 edges at equal distances; a range without extent is widened by `margin` to both sides.
local function even_edges(x, bins, low, high, margin)
  if low == high then low, high = low - margin, high + margin end
  local on = {dtype = "f32", device = core.device(x)}
  local edges = create.linspace(low, high, bins + 1, on)
  core.copy_(core.narrow(edges, 1, bins + 1, 1), core.full({1}, high, on))
  return edges
end

-- Σ weight by position, in f32: in the order of the elements, but on a GPU only where that is asked for.
local function sum_at(places, size, weight)
  if core.is_deterministic() then return core.index_add({size}, 1, places, weight) end
  return added_up({size}, 1, places, core.to(weight, {dtype = "f32"}))
end

-- Σ weight in each bin between edges. The last edge belongs to the last bin.
local function sum_weights(x, edges, weight)
  local bins = core.numel(edges) - 1
  local last = core.narrow(edges, 1, bins + 1, 1)
  local values = core.view(core.contiguous(x), {-1})
  local places = core.searchsorted(edges, values, true)
  places = core.where(core.eq(core.to(values, {dtype = "f32"}), last), bins, places)
  local sums = sum_at(places, bins + 2, core.view(core.contiguous(weight), {-1}))
  return core.contiguous(core.narrow(sums, 1, 2, bins))
end

local function check_weight(name, x, weight)
  if not core.is_tensor(weight) then raise(("%s: the weights must be a tensor, got %s"):format(name, type(weight))) end
  local own, expected = shape_text(core.shape(weight)), shape_text(core.shape(x))
  if own ~= expected then raise(("%s: the weights must have shape %s, got %s"):format(name, expected, own)) end
end

local function checked_range(name, range)
  local low, high = range[1], range[2]
  if not (is_finite(low) and is_finite(high)) or range[3] ~= nil then
    raise(name .. ": option range must be a list of two finite numbers")
  end
  if low > high then raise(("%s: option range: %g is above %g"):format(name, low, high)) end
  return low, high
end

--- x:histogram(bins [, {range =, weight =, density =}]): how many elements of x are in each bin, and the edges of bins,
-- one more than there are bins, both f32. `bins` is a number of bins of equal width in `range`, a list of two numbers,
-- or from the smallest to the largest element (for which the device is waited for); or a tensor of ascending edges. A
-- bin takes its lower edge, the last one both; NaN and what is outside is not counted. `weight`, of x's shape, is added
-- up in place of 1. With density = true counts are divided by their sum and the width of the bin. x may have any dtype
-- and is compared in f32.
--   fp8.histogram(fp8.tensor {1, 2, 1}, 4, {range = {0, 3}}) --> {0, 2, 1, 0}
--   select(2, fp8.tensor({1, 2, 1}):histogram(2)) --> {1, 1.5, 2}
function count.histogram(x, bins, options)
  check.tensor("histogram", 1, x)
  options = check_options("histogram", options, {range = "table", weight = true, density = "boolean"})
  local edges, counts
  if options.weight ~= nil then check_weight("histogram", x, options.weight) end
  if core.is_tensor(bins) then
    if options.range then raise "histogram: option range is for a number of bins" end
    check.tensor("histogram", 2, bins, 1)
    if core.numel(bins) < 2 then raise "histogram: the edges of at least one bin are needed" end
    edges = core.contiguous(core.to(bins, {dtype = "f32"}))
  else
    check.whole("histogram", "the number of bins", bins, 1)
    local low, high
    if options.range then
      low, high = checked_range("histogram", options.range)
    else
      low, high = extremes("histogram", x)
    end
    edges = even_edges(x, bins, low, high, 0.5)
  end
  if options.weight then
    counts = sum_weights(x, edges, options.weight)
  else
    counts = core.to(core.histogram(x, edges), {dtype = "f32"})
  end
  if options.density then
    local number = core.numel(counts)
    local widths = core.sub(core.narrow(edges, 1, 2, number), core.narrow(edges, 1, 1, number))
    counts = core.div(core.div(counts, core.sum(counts)), widths)
  end
  return counts, edges
end

--- x:histc([bins [, min [, max]]]): how many elements of x are in each of `bins` (100) bins of equal width from `min`
-- to `max`, both included; or, where these are equal (0 if left out), from the smallest to the largest element, for
-- which the device is waited for. Of x's dtype, or f32 where x has integers or is float8.
--   fp8.tensor({1, 2, 1}):histc(4, 0, 3) --> {0, 2, 1, 0}
function count.histc(x, bins, low, high)
  check.tensor("histc", 1, x)
  bins, low, high = bins or 100, low or 0, high or 0
  check.whole("histc", "the number of bins", bins, 1)
  if not (is_finite(low) and is_finite(high)) then raise "histc: min and max must be finite numbers" end
  if low > high then raise(("histc: min must be at most max, got %g and %g"):format(low, high)) end
  if low == high then low, high = extremes("histc", x) end
  local dtype = core.dtype(x)
  local counts = core.histogram(x, even_edges(x, bins, low, high, 1))
  return core.to(counts, {dtype = core.dtypes[dtype].kind == "float" and dtype or "f32"})
end

--- x:bincount([weights [, minlength]]): for a vector x of integers from 0 on, how often each is there, i64, or the sum
-- of its weights, f32: up to the largest, for which the device is waited for, and at least `minlength` (0) elements.
--   fp8.tensor({0, 2, 2}, {dtype = "i64"}):bincount() --> {1, 0, 2}
--   fp8.tensor({0, 2, 2}, {dtype = "i64"}):bincount(fp8.tensor {1, 0.5, 2}, 4) --> {1, 0, 2.5, 0}
function count.bincount(x, weights, minlength)
  check.tensor("bincount", 1, x, 1)
  minlength = check.whole("bincount", "minlength", minlength or 0, 0)
  if core.dtypes[core.dtype(x)].kind ~= "integer" then
    raise("bincount: integers are needed, got " .. core.dtype(x))
  end
  if weights ~= nil then check_weight("bincount", x, weights) end
  local bins = minlength
  if core.numel(x) > 0 then
    local smallest, largest = core.item(core.min(x)), core.item(core.max(x))
    if smallest < 0 then raise(("bincount: integers from 0 on are needed, got %s"):format(tostring(smallest))) end
    bins = math.max(bins, tonumber(largest) + 1)
  end
  if weights == nil then return core.bincount(x, bins) end
  return sum_at(x, bins, weights)
end

return count

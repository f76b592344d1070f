--- Running extremes and sums of exponentials, by doubling: each position takes in what is 1, 2, 4, … places before it;
-- and differences, the other way.
local as_float = require "fp8.ops.as_float"
local check = require "fp8.ops.check"
local core = require "fp8.core"
local elementwise = require "fp8.ops.elementwise"
local in_float32 = require "fp8.ops.in_float32"
local index = require "fp8.ops.index"
local join = require "fp8.ops.join"
local view = require "fp8.ops.view"

local running = {}

-- f(x, dimension) of a tensor that has dimensions; one without is an element in a row.
local function along(name, x, dimension, f)
  check.tensor(name, 1, x)
  if core.rank(x) > 0 then return f(x, check.dimension(name, x, dimension)) end
  if dimension ~= 1 and dimension ~= -1 then
    core.raise(("%s: dimension %s of a tensor of 0 dimensions"):format(name, tostring(dimension)))
  end
  local values, positions = f(view.view(x, {1}), 1)
  if not positions then return view.view(values, {}) end
  return view.view(values, {}), view.view(positions, {})
end

-- x, whose positions from `step` + 1 on become combine(what is `step` before, themselves).
local function combined(x, dimension, step, combine)
  local rest = core.size(x, dimension) - step
  local later = combine(view.narrow(x, dimension, 1, rest), view.narrow(x, dimension, step + 1, rest))
  return join.cat({view.narrow(x, dimension, 1, step), later}, dimension)
end

-- Of each position, the last one up to it that has the extreme: `beyond` is lt for the largest. NaN is beyond all.
local function positions_of_extremes(x, dimension, beyond)
  local length, shape = core.size(x, dimension), {}
  for i = 1, core.rank(x) do shape[i] = i == dimension and length or 1 end
  local numbers = core.view(core.arange(length, {dtype = "i64", device = core.device(x)}), shape)
  local positions, values, step = core.contiguous(core.expand(numbers, core.shape(x))), core.contiguous(x), 1
  while step < length do
    local stays
    values = combined(values, dimension, step, function(before, own)
      local only_before = core.logical_and(core.isnan(before), core.logical_not(core.isnan(own)))
      stays = core.logical_or(beyond(own, before), only_before)
      return core.where(stays, before, own)
    end)
    positions = combined(positions, dimension, step, function(before, own) return core.where(stays, before, own) end)
    step = 2 * step
  end
  return positions
end

local function extremes(name, beyond)
  return function(x, dimension)
    return along(name, x, dimension, function(rows, place)
      local positions = positions_of_extremes(core.share(rows), place, beyond)
      return index.gather(rows, place, positions), positions
    end)
  end
end

--- x:cummax(dim), x:cummin(dim): the largest or smallest of the elements up to each along a dimension, and its
-- position, i64: of equal ones the last. NaN from the first one on.
--   fp8.tensor({1, 3, 2, 3}):cummax(1) --> {1, 3, 3, 3}
--   select(2, fp8.tensor({1, 3, 2, 3}):cummax(1)) --> {0, 1, 1, 3}
--   fp8.tensor({3, 1, 2}):cummin(1) --> {3, 1, 1}
running.cummax, running.cummin = extremes("cummax", core.lt), extremes("cummin", core.gt)

local function logarithms_of_sums(x, dimension)
  local step = 1
  while step < core.size(x, dimension) do
    x = combined(x, dimension, step, elementwise.logaddexp)
    step = 2 * step
  end
  return x
end

--- x:logcumsumexp(dim): ln of the sum of e^x over the elements up to each along a dimension, where no power overflows;
-- of integers f32.
--   fp8.tensor({1000, 1000}):logcumsumexp(1) --> {1000, 1000.6931472}
function running.logcumsumexp(x, dimension)
  return along("logcumsumexp", x, dimension, function(rows, place)
    rows = as_float(rows)
    return in_float32(logarithms_of_sums, rows, place)
  end)
end

--- x:diff([n [, dim]]): each element less the one before it along a dimension (the last if left out), n times (1).
--   fp8.tensor({1, 4, 9, 16}):diff() --> {3, 5, 7}
--   fp8.tensor({1, 4, 9, 16}):diff(2) --> {2, 2}
function running.diff(x, n, dimension)
  dimension = check.dimension("diff", x, dimension or -1)
  check.whole("diff", "n", n or 1, 0)
  for _ = 1, math.min(n or 1, core.size(x, dimension)) do
    local rest = math.max(core.size(x, dimension) - 1, 0)
    local later = view.narrow(x, dimension, core.size(x, dimension) - rest + 1, rest)
    x = elementwise.sub(later, view.narrow(x, dimension, 1, rest))
  end
  return x
end

return running

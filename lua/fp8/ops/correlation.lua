--- How variables vary together, and areas below curves: in float32, rounded once; integers become f32.
local as_float = require "fp8.ops.as_float"
local check = require "fp8.ops.check"
local core = require "fp8.core"
local elementwise = require "fp8.ops.elementwise"
local in_float32 = require "fp8.ops.in_float32"
local matmul = require("fp8.ops.matmul.matmul").matmul
local reduce = require "fp8.ops.reduce"
local shape_text = require("fp8.shapes").text
local triangle = require "fp8.ops.triangle"
local view = require "fp8.ops.view"

local div, mul, raise, sub = elementwise.div, elementwise.mul, core.raise, elementwise.sub

local correlation = {}

-- Variables in rows, and whether there is but one, whose results have no dimensions; a vector is one.
local function variables(name, x)
  check.tensor(name, 1, x)
  if core.rank(x) < 2 then x = view.reshape(x, {1, -1}) end
  return as_float(check.tensor(name, 1, x, 2)), core.size(x, 1) == 1
end

local function covariances(x, correction)
  local count = core.size(x, 2)
  local centred = sub(x, reduce.mean(x, 2, true))
  return div(matmul(centred, view.t(centred)), math.max(count - correction, 0))
end

--- x:cov([correction]): the covariances of the variables in x's rows, whose observations are the columns,
-- Σ (a - mean) · (b - mean) / (count - correction), with 1 for `correction` if left out; of one variable
-- its variance, without dimensions.
--   fp8.tensor({{1, 3}, {4, 0}}):cov() --> {{2, -4}, {-4, 8}}
function correlation.cov(x, correction)
  local rows, is_single = variables("cov", x)
  correction = check.whole("cov", "the correction", correction == nil and 1 or correction, 0)
  local y = in_float32(covariances, rows, correction)
  return is_single and view.view(y, {}) or y
end

local function correlations(x)
  local products = covariances(x, 0)
  local deviations = elementwise.sqrt(triangle.diagonal(products))
  local y = div(div(products, view.unsqueeze(deviations, 2)), view.unsqueeze(deviations, 1))
  return elementwise.clamp(y, -1, 1)
end

--- x:corrcoef(): the correlations of the variables in x's rows, from -1 to 1: covariances over both deviations; 1 of
-- one variable.
--   fp8.tensor({{1, 3}, {4, 0}}):corrcoef() --> {{1, -1}, {-1, 1}}
function correlation.corrcoef(x)
  local rows, is_single = variables("corrcoef", x)
  local y = in_float32(correlations, rows)
  return is_single and view.view(y, {}) or y
end

local function area(y, widths, dimension)
  local count = core.size(y, dimension)
  local pairs_of = elementwise.add(view.narrow(y, dimension, 1, count - 1), view.narrow(y, dimension, 2, count - 1))
  return mul(reduce.sum(mul(pairs_of, widths), dimension), 0.5)
end

--- y:trapezoid([x or step [, dim]]): the area below y along a dimension (the last if left out), by straight lines
-- between its values, at the ascending places x (a vector, or a tensor of y's shape) or so far apart (1 if left out).
--   fp8.tensor({1, 3, 5}):trapezoid() --> 6
--   fp8.tensor({1, 3, 5}):trapezoid(fp8.tensor {0, 1, 3}) --> 10
function correlation.trapezoid(y, x, dimension)
  dimension = check.dimension("trapezoid", y, dimension or -1)
  y = as_float(y)
  if core.size(y, dimension) == 0 then return reduce.sum(y, dimension) end
  if x == nil then x = 1 end
  if type(x) == "number" then return in_float32(area, y, x, dimension) end
  check.tensor("trapezoid", 2, x)
  local places, rank, along = as_float(x), core.rank(y), dimension
  if core.rank(x) == 1 and rank > 1 then
    local shape = {}
    for i = 1, rank do shape[i] = i == dimension and core.numel(x) or 1 end
    places = view.reshape(places, shape)
  elseif core.rank(x) ~= rank then
    raise("trapezoid: argument 2: a vector or a tensor of y's shape is needed, got shape " .. shape_text(core.shape(x)))
  end
  local count = core.size(y, dimension)
  if core.size(places, along) ~= count then
    raise(("trapezoid: shapes %s and %s: %d values at %d places"):format(shape_text(core.shape(y)),
      shape_text(core.shape(x)), count, core.size(places, along)))
  end
  return in_float32(function(values, at)
    local widths = sub(view.narrow(at, along, 2, count - 1), view.narrow(at, along, 1, count - 1))
    return area(values, widths, along)
  end, y, places)
end

return correlation

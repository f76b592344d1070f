--- Statistics and checks of whole tensors or dimensions, composed of other operations. `dims` and `keepdim` are as in
-- reduce.lua.
local as_float = require "fp8.ops.as_float"
local autograd = require "fp8.autograd"
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local in_float32 = require "fp8.ops.in_float32"
local reduce = require "fp8.ops.reduce"

local needs_grad, record = autograd.needs_grad, autograd.record

local statistics = {}

-- Of x in f32: x - mean, and the gradient with the reduced dimensions back.
local function differences(node, x, grad)
  local mean = core.mean(x, node.dimensions, true)
  return core.sub(x, mean), core.to(core.view(core.contiguous(grad), core.shape(mean)), {dtype = "f32"})
end

local operations = {
  var = {
    name = "var",
    backward = function(node, grad, x)
      local difference, whole = differences(node, core.to(x, {dtype = "f32"}), grad)
      return core.to(core.mul(core.mul(difference, 2 / node.divisor), whole), {dtype = core.dtype(x)})
    end,
  },
  std = {
    name = "std",
    backward = function(node, grad, x)
      local wide = core.to(x, {dtype = "f32"})
      local difference, whole = differences(node, wide, grad)
      local std = core.std(wide, node.dimensions, true, node.correction)
      local slope = core.div(difference, core.mul(core.where(core.eq(std, 0), 1, std), node.divisor))
      return core.to(core.mul(slope, whole), {dtype = core.dtype(x)})
    end,
  },
}

local deviation_options = {correction = "number", keepdim = "boolean"}

local function measured(name, x, dimensions, options)
  options = check_options(name, options, deviation_options)
  x = as_float(x)
  local correction = options.correction or 1
  local y = core[name](x, dimensions, options.keepdim, correction)
  if needs_grad(x) then
    local node = record(y, operations[name], {x}, {x})
    node.dimensions, node.correction = dimensions, correction
    node.divisor = math.max(core.numel(x) / math.max(core.numel(y), 1) - correction, 0)
  end
  return y
end

--- x:var([dims [, {correction =, keepdim =}]]): the variance, Σ (x - mean)² / (count - correction); correction is 1 if
-- left out (the unbiased estimate). NaN of fewer elements than that takes; of integers f32.
--   fp8.tensor({1, 2, 3, 4}):var() --> 5 / 3
--   fp8.tensor({{1, 3}, {2, 8}}):var(2, {correction = 0}) --> {1, 9}
function statistics.var(x, dimensions, options) return measured("var", x, dimensions, options) end

--- x:std([dims [, {correction =, keepdim =}]]): the root of the variance. Where it is 0, so is its derivative.
--   fp8.tensor({{1, 3}, {2, 8}}):std(2, {correction = 0}) --> {1, 3}
function statistics.std(x, dimensions, options) return measured("std", x, dimensions, options) end

--- x:std_mean([dims [, options]]), x:var_mean([dims [, options]]): x:std or x:var, and x:mean.
--   {fp8.tensor({1, 3}):std_mean(nil, {correction = 0})} --> {1, 2}
--   {fp8.tensor({1, 3}):var_mean()} --> {2, 2}
local function with_mean(measure)
  return function(x, dimensions, options)
    return measure(x, dimensions, options), reduce.mean(x, dimensions, options and options.keepdim)
  end
end
statistics.std_mean, statistics.var_mean = with_mean(statistics.std), with_mean(statistics.var)

local log_sum = {
  name = "logsumexp",
  backward = function(node, grad, x, y)
    local function whole(tensor) return core.view(core.contiguous(tensor), node.kept_shape) end
    return core.mul(whole(grad), core.exp(core.sub(x, whole(core.masked_fill(y, core.eq(y, -math.huge), 0)))))
  end,
}

local function logarithm_of_sum(x, dimensions, keepdim)
  local largest
  if core.numel(x) == 0 then
    largest = core.sum(x, dimensions, true)
  else
    largest = core.max(x, dimensions, true)
    largest = core.where(core.isfinite(largest), largest, 0)
  end
  local total = core.sum(core.exp(core.sub(x, largest)), dimensions, keepdim)
  local y = core.add(core.log(total), core.view(largest, core.shape(total)))
  if needs_grad(x) then record(y, log_sum, {x}, {x, y}).kept_shape = core.shape(largest) end
  return y
end

--- x:logsumexp([dims [, keepdim]]): ln Σ e^x, where no power overflows; of integers f32.
--   fp8.tensor({1000, 1000}):logsumexp() --> 1000.6931472
function statistics.logsumexp(x, dimensions, keepdim)
  return in_float32(logarithm_of_sum, as_float(x), dimensions, keepdim)
end

--- x:any([dims [, keepdim]]): 1 where some element is not 0, else 0, as u8; not differentiable.
--   fp8.tensor({{0, 0}, {0, 2}}):any(2) --> {0, 1}
function statistics.any(x, dimensions, keepdim)
  return core.gt(core.sum(core.ne(x, 0), dimensions, keepdim), 0)
end

--- x:all([dims [, keepdim]]): 1 where no element is 0, else 0, as u8; not differentiable.
--   fp8.tensor({{1, 0}, {1, 2}}):all(2) --> {0, 1}
function statistics.all(x, dimensions, keepdim)
  return core.eq(core.sum(core.eq(x, 0), dimensions, keepdim), 0)
end

--- x:isclose(y [, rtol [, atol [, equal_nan]]]): 1 where |x - y| <= atol + rtol · |y|, else 0, as u8; infinities are
-- close to themselves alone, and NaN to NaN with true for equal_nan. rtol is 1e-5, atol 1e-8 if left out. Computed in
-- f32.
--   fp8.tensor({1, 2}):isclose(fp8.tensor {1.000001, 2.1}) --> {1, 0}
function statistics.isclose(x, y, rtol, atol, equal_nan)
  local a, b = core.to(x, {dtype = "f32"}), core.to(y, {dtype = "f32"})
  local distance = core.abs(core.sub(a, b))
  local allowed = core.add(core.mul(core.abs(b), rtol or 1e-5), atol or 1e-8)
  local close = core.logical_or(core.eq(a, b), core.logical_and(core.isfinite(distance), core.le(distance, allowed)))
  if not equal_nan then return close end
  return core.logical_or(close, core.logical_and(core.isnan(a), core.isnan(b)))
end

--- x:allclose(y [, rtol [, atol [, equal_nan]]]): whether all elements are close, as isclose has it: true or false, for
-- which the device is waited for.
--   fp8.allclose(fp8.tensor {1, 2}, fp8.tensor {1, 2.000001}) --> true
function statistics.allclose(...) return core.item(statistics.all(statistics.isclose(...))) == 1 end

--- x:equal(y): whether two tensors have one shape and the same values: true or false, for which the device is waited
-- for.
--   fp8.equal(fp8.tensor {1, 2}, fp8.tensor {1, 2}) --> true
function statistics.equal(x, y)
  local shape, other = core.shape(x), core.shape(y)
  if #shape ~= #other then return false end
  for i = 1, #shape do
    if shape[i] ~= other[i] then return false end
  end
  return core.item(statistics.all(core.eq(x, y))) == 1
end

return statistics

--- Softmax along a dimension.
local core = require "fp8.core"
local as_row = require "fp8.ops.as_row"
local autograd = require "fp8.autograd"
local unary = require "fp8.ops.elementwise.unary"

local needs_grad, record = autograd.needs_grad, autograd.record

local softmax = {}

local function backward(node, grad, y)
  return core.softmax_backward(grad, y, node.dimension, node.operation.logarithm)
end

local exponential = {name = "softmax", logarithm = false, backward = backward}
local logarithmic = {name = "log_softmax", logarithm = true, backward = backward}

--- exp(x) / Σ exp(x) along a dimension.
--   fp8.tensor({0, 0}):softmax(1) --> {0.5, 0.5}
function softmax.softmax(x, dimension)
  if core.is_tensor(x) and core.rank(x) == 0 then return as_row(softmax.softmax, x, dimension) end
  local y = core.softmax(x, dimension)
  if needs_grad(x) then record(y, exponential, {x}, {y}).dimension = dimension end
  return y
end

--- Logarithm of softmax along a dimension.
--   fp8.tensor({0, 0}):log_softmax(1) --> {-0.6931472, -0.6931472}
function softmax.log_softmax(x, dimension)
  if core.is_tensor(x) and core.rank(x) == 0 then return as_row(softmax.log_softmax, x, dimension) end
  local y = core.log_softmax(x, dimension)
  if needs_grad(x) then record(y, logarithmic, {x}, {y}).dimension = dimension end
  return y
end

--- exp(-x) / Σ exp(-x) along a dimension.
--   fp8.tensor({0, math.log(3)}):softmin(1) --> {0.75, 0.25}
function softmax.softmin(x, dimension) return softmax.softmax(unary.neg(x), dimension) end

return softmax

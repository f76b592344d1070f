--- Comparisons, and choices between values, element by element.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local limited = require "fp8.ops.elementwise.limited"

local needs_grad, record = autograd.needs_grad, autograd.record
local where = core.where

local choice = {}

--- Comparisons with a tensor or a number: u8 tensors of 1 and 0, not differentiable. Between integers, and of integers
-- with any number, they are exact.
--   fp8.tensor({1, 2}):eq(2) --> {0, 1}
--   fp8.tensor({1, 2}):ne(2) --> {1, 0}
--   fp8.tensor({1, 2}):lt(2) --> {1, 0}
--   fp8.tensor({1, 2}):le(2) --> {1, 1}
--   fp8.tensor({1, 2}):gt(1) --> {0, 1}
--   fp8.tensor({1, 2}):ge(1) --> {1, 1}
choice.eq, choice.ne = core.eq, core.ne
choice.lt, choice.le = core.lt, core.le
choice.gt, choice.ge = core.gt, core.ge

-- A logical operation. A number is true if it is not 0, whether the dtype of a tensor beside it could hold it or not.
local function logical(compute)
  local function truth(operand)
    if type(operand) ~= "number" then return operand end
    return operand ~= 0 and 1 or 0
  end
  return function(a, b) return compute(truth(a), truth(b)) end
end

--- Whether both operands, one, or exactly one are not 0: u8 tensors of 1 and 0, of any dtypes, not differentiable. One
-- may be a number.
--   fp8.tensor({1, 0}):logical_and(fp8.tensor {2, 2}) --> {1, 0}
--   fp8.tensor({1, 0}):logical_or(fp8.tensor {2, 0}) --> {1, 0}
--   fp8.tensor({1, 0}):logical_xor(fp8.tensor {2, 2}) --> {0, 1}
choice.logical_and, choice.logical_or = logical(core.logical_and), logical(core.logical_or)
choice.logical_xor = logical(core.logical_xor)

local function coordinates(condition)
  local rows, list = core.nonzero(core.ne(condition, 0)), {}
  for i = 1, core.size(rows, 2) do list[i] = core.select(rows, 2, i) end
  return list
end

local choosing = {
  name = "where",
  backward = function(node, grad, condition)
    local inputs = node.inputs
    return inputs[1] and where(condition, grad, 0), inputs[2] and where(condition, 0, grad)
  end,
}

--- a where `condition` (a tensor) is not 0, else b; all three broadcast, a and b may be numbers. As a method,
-- a:where(condition, b). Of a condition alone, as PyTorch has it, the list of the coordinates from 0, a vector for each
-- dimension, of the elements that are not 0: it waits for the device.
--   fp8.where(fp8.tensor({1, 0}), fp8.tensor({5, 6}), 0) --> {5, 0}
--   fp8.where(fp8.tensor {{0, 1}, {1, 0}}) --> {{0, 1}, {1, 0}}
function choice.where(condition, a, b)
  if a == nil and b == nil and core.is_tensor(condition) then return coordinates(condition) end
  local y = where(condition, a, b)
  if needs_grad(a, b) then record(y, choosing, {a, b}, {condition}) end
  return y
end

local filling = {
  name = "masked_fill",
  backward = function(_, grad, mask) return where(mask, 0, grad) end,
}

--- x with `value` (a number) where `mask` is not 0.
--   fp8.tensor({5, 6}):masked_fill(fp8.tensor({1, 0}), 0) --> {0, 6}
function choice.masked_fill(x, mask, value)
  local y = core.masked_fill(x, mask, value)
  if needs_grad(x) then record(y, filling, {x}, {mask}) end
  return y
end

--- min(max(x, low), high); either limit may be nil. The gradient passes where x is within the limits, ends included.
-- Integers become f32 if a limit is no whole number.
--   fp8.tensor({-5, 0, 5}):clamp(-1, 2) --> {-1, 0, 2}
choice.clamp = limited(core.lt, core.gt)

return choice

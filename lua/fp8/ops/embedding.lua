--- Look-up of rows, one for each token.
local core = require "fp8.core"
local autograd = require "fp8.autograd"

local looking_up = {
  name = "embedding",
  backward = function(node, grad, indices)
    local shape, count = node.weight_shape, core.numel(indices)
    local positions, whole = core.view(core.contiguous(indices), {count}), core.contiguous(grad)
    local rows = core.view(whole, {count, shape[2]})
    local sums = core.index_add(shape, 1, positions, rows, node.dtype)
    core.free(rows)
    if whole ~= grad then core.free(whole) end
    return sums
  end,
}

--- The rows of a matrix that integers name. The gradient of a row that is named several times adds up, in the order of
-- the indices on every device: the same gradients give the same bits.
-- @param weight  (count, features), f32, f16 or bf16
-- @param indices integers from 0 to count - 1, of any shape
-- @return indices' shape and features, of the weight's dtype
--   fp8.embedding(fp8.tensor({{1, 2}, {3, 4}}), fp8.tensor({1, 0, 1}, {dtype = "i64"})) --> {{3, 4}, {1, 2}, {3, 4}}
return function(weight, indices)
  local y = core.embedding(weight, indices)
  if autograd.needs_grad(weight) then
    autograd.record(y, looking_up, {weight}, {indices}).weight_shape = core.shape(weight)
  end
  return y
end

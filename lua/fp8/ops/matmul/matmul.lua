--- Matrix products.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local shapes = require "fp8.shapes"
local transposed_matmul = require "fp8.ops.matmul.transposed"

local needs_grad, record = autograd.needs_grad, autograd.record
local as_rows, shape_of = shapes.as_rows, core.shape
local free, matmul, unsqueeze = core.free, core.matmul, core.unsqueeze
local times_transposed, transposed_times = transposed_matmul.times_transposed, transposed_matmul.transposed_times

local product = {
  name = "matmul",
  backward = function(node, grad, a, b)
    local left_is_vector, right_is_vector = #node.shape_a == 1, #node.shape_b == 1
    if right_is_vector then
      grad = unsqueeze(grad, -1)
      b = b and unsqueeze(b, 2)
    end
    if left_is_vector then
      grad = unsqueeze(grad, -2)
      a = a and unsqueeze(a, 1)
    end
    local grad_a, grad_b
    if node.inputs[1] then grad_a = times_transposed(grad, b) end
    if node.inputs[2] then
      if #node.shape_b <= 2 and #node.shape_a > 2 then
        -- One matrix for a whole batch: one product over all rows, not one a batch that would then be added up.
        local rows, dy = as_rows(a), as_rows(grad)
        grad_b = transposed_times(rows, dy)
        if rows ~= a then free(rows) end
        if dy ~= grad then free(dy) end
      else
        grad_b = transposed_times(a, grad)
      end
      if right_is_vector then grad_b = core.squeeze(grad_b, -1) end
    end
    return grad_a, grad_b
  end,
}

--- Product of the last two dimensions of a (…, m, k) and b (…, k, n); leading dimensions broadcast. A vector is a
-- row on the left, a column on the right, and its dimension is dropped from the result. One dtype of f32, f16 and bf16;
-- sums are float32.
--   fp8.tensor({{1, 2}, {3, 4}}):matmul(fp8.tensor {1, 1}) --> {3, 7}
local function differentiable_matmul(a, b)
  local y = matmul(a, b)
  if needs_grad(a, b) then
    local node = record(y, product, {a, b}, {needs_grad(b) and a, needs_grad(a) and b})
    node.shape_a, node.shape_b = shape_of(a), shape_of(b)
  end
  return y
end

return {matmul = differentiable_matmul}

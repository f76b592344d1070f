--- The three products of a linear layer as a plan (plan.lua) has them:
--
--   y  = x·Wᵀ + b   of quantized x and W
--   dx = dy·W       of quantized dy and W
--   dW = dyᵀ·x      of quantized dy and x
--
-- A product takes its operands as codes with scales, which FP8 tensor cores can multiply, or as values of x's dtype.
-- The cores accumulate y fast and the gradients, which lose more by it, accurately (backend.h, scaled_matmul), as
-- torchao and Transformer Engine do.
local core = require "fp8.core"
local operands = require "fp8.linear.operands"
local transposed_matmul = require "fp8.ops.transposed_matmul"

local free, matmul, scaled_matmul = core.free, core.matmul, core.scaled_matmul
local dtype_of, numel, size = core.dtype, core.numel, core.size
local codes_of, decoded, delayed, values_of = operands.codes_of, operands.decoded, operands.delayed, operands.values_of
local scale_for = operands.scale_for
local times_transposed, transposed_times = transposed_matmul.times_transposed, transposed_matmul.transposed_times

local products = {}

-- As many values of a quantized x are kept for the backward pass: making them again would cost more than it saves.
local few_values = 2^20

--- y, and what the product for dW can use again: nil if it takes x in another form, else {scale =, transposed =,
-- values =}: the scales of x; its codes, transposed; or, without scales, the values that it was multiplied as.
-- @param x               (rows, in)
-- @param weight          a form of W (operands.lua)
-- @param bias            of `dtype`, or nil
-- @param for_weight_grad whether there will be a product for dW
-- @param histories       as linear_state.histories_of gives them
function products.forward(x, weight, bias, plan, dtype, for_weight_grad, histories)
  local product, weight_grad = plan.forward, for_weight_grad and plan.weight_grad
  local operand = product.left
  local again = weight_grad and weight_grad.right == operand or false
  local transposing = again and weight_grad.native
  local known = delayed(x, operand, histories)
  if product.native then
    local codes, scale, transposed = codes_of(x, operand, plan, known, transposing)
    local weight_scale = scale_for(product, weight.scale, size(weight.codes, 1))
    local y = scaled_matmul(codes, scale, weight.codes, weight_scale, bias, dtype, true)
    free(codes)
    return y, again and {scale = scale, transposed = transposed} or nil
  end
  local values, scale, transposed, _
  if transposing then
    local codes
    codes, scale, transposed = codes_of(x, operand, plan, known, true)
    values = decoded(codes, scale, operand, dtype)
    free(codes)
  else
    values, _, scale = values_of(x, operand, plan, known, dtype, nil, again)
  end
  local y = times_transposed(values, weight.values, bias)
  if again and not transposing and numel(values) <= few_values then return y, {values = values} end
  free(values)
  return y, again and {scale = scale, transposed = transposed} or nil
end

-- dy in the forms that products need, and db, which comes out of the same pass.
local function quantized_grad(dy, operand, plan, wants, sum_dtype, known)
  local form = {}
  if wants.codes or wants.transposed then
    form.codes, form.scale, form.transposed, form.sum =
      codes_of(dy, operand, plan, known, wants.transposed or false, sum_dtype)
    if wants.values then form.values = decoded(form.codes, form.scale, operand, dtype_of(dy)) end
  else
    form.values, form.sum = values_of(dy, operand, plan, known, nil, sum_dtype)
  end
  return form
end

--- dy for dx and for dW, nil for what is not needed, and db. One form serves both if they take the same operand.
-- @param sum_dtype of db, or nil for none
function products.grad_forms(dy, plan, for_input, for_weight, sum_dtype, histories)
  local input, weight = for_input and plan.input_grad, for_weight and plan.weight_grad
  local shared = input and weight and input.left == weight.left
  local first, second
  if input then
    local wants = {
      codes = input.native, transposed = shared and weight.native,
      values = not input.native or shared and not weight.native,
    }
    first = quantized_grad(dy, input.left, plan, wants, sum_dtype, delayed(dy, input.left, histories))
  end
  if weight and not shared then
    local wants = {transposed = weight.native, values = not weight.native}
    second = quantized_grad(dy, weight.left, plan, wants, not first and sum_dtype or nil,
      delayed(dy, weight.left, histories))
  end
  local sum = (first or second).sum
  ;(first or second).sum = nil
  return first, shared and first or second, sum
end

--- dx, of `dtype`, from forms of dy and W.
function products.input_grad(dy, weight, plan, dtype)
  local product = plan.input_grad
  if product.native then
    local weight_scale = scale_for(product, weight.scale, size(weight.transposed, 1))
    return scaled_matmul(dy.codes, dy.scale, weight.transposed, weight_scale, nil, dtype)
  end
  local values = weight.values or
    decoded(weight.codes, scale_for(product, weight.scale), product.right, dtype)
  return matmul(dy.values, values)
end

--- dW, of `dtype`.
-- @param dy   a form of it
-- @param x    (rows, in), not quantized; not used where `kept` has its codes or values
-- @param kept what `forward` returned beside y
function products.weight_grad(dy, x, kept, plan, dtype, histories)
  local product = plan.weight_grad
  local operand = product.right
  if kept and kept.transposed then
    return scaled_matmul(dy.transposed, dy.scale, kept.transposed, kept.scale, nil, dtype)
  elseif kept and kept.values then
    return transposed_times(dy.values, kept.values, dtype)
  end
  local known = kept and kept.scale or delayed(x, operand, histories)
  if product.native then
    local codes, scale, transposed = codes_of(x, operand, plan, known, true)
    free(codes)
    return scaled_matmul(dy.transposed, dy.scale, transposed, scale, nil, dtype)
  end
  local values = values_of(x, operand, plan, known)
  local grad = transposed_times(dy.values, values, dtype)
  free(values)
  return grad
end

return products

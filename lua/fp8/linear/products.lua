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
local dequantize, dtype_of, numel, quantize, size = core.dequantize, core.dtype, core.numel, core.quantize, core.size
local delayed, scale_for = operands.delayed, operands.scale_for
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
    local form = quantize(x, operand.quantizer, {codes = true, scale = true, transposed = transposing, known = known})
    local y = scaled_matmul {
      a = form.codes, scale_a = form.scale, b = weight.codes,
      scale_b = scale_for(product, weight.scale, size(weight.codes, 1)), bias = bias, dtype = dtype, fast = true,
    }
    free(form.codes)
    form.codes = nil
    return y, again and form or nil
  end
  local form
  if transposing then
    form = quantize(x, operand.quantizer, {codes = true, scale = true, transposed = true, known = known})
    form.values = dequantize(form.codes, form.scale, operand.quantizer, dtype)
    free(form.codes)
    form.codes = nil
  else
    form = quantize(x, operand.quantizer, {values = dtype, scale = again, known = known})
  end
  local y = times_transposed(form.values, weight.values, bias)
  if again and not transposing and numel(form.values) <= few_values then return y, {values = form.values} end
  free(form.values)
  form.values = nil
  return y, again and form or nil
end

-- dy in the forms that products need, and db, which comes out of the same pass.
local function quantized_grad(dy, operand, wants, sum_dtype, known)
  if not (wants.codes or wants.transposed) then
    return quantize(dy, operand.quantizer, {values = dtype_of(dy), sum = sum_dtype, known = known})
  end
  local form = quantize(dy, operand.quantizer, {
    codes = wants.codes or wants.values or false, scale = true, transposed = wants.transposed, sum = sum_dtype,
    known = known,
  })
  if wants.values then form.values = dequantize(form.codes, form.scale, operand.quantizer, dtype_of(dy)) end
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
    first = quantized_grad(dy, input.left, wants, sum_dtype, delayed(dy, input.left, histories))
  end
  if weight and not shared then
    local wants = {transposed = weight.native, values = not weight.native}
    second = quantized_grad(dy, weight.left, wants, not first and sum_dtype or nil,
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
    return scaled_matmul {
      a = dy.codes, scale_a = dy.scale, b = weight.transposed,
      scale_b = scale_for(product, weight.scale, size(weight.transposed, 1)), dtype = dtype,
    }
  end
  local values = weight.values or
    dequantize(weight.codes, scale_for(product, weight.scale), product.right.quantizer, dtype)
  return matmul(dy.values, values)
end

--- dW, of `dtype`.
-- @param dy   a form of it
-- @param x    (rows, in), not quantized; not used where `kept` has its codes or values
-- @param kept what `forward` returned beside y
function products.weight_grad(dy, x, kept, plan, dtype, histories)
  local product = plan.weight_grad
  local operand = product.right
  if kept and kept.values then return transposed_times(dy.values, kept.values, dtype) end
  local form = kept
  if not (kept and kept.transposed) then
    local known = kept and kept.scale or delayed(x, operand, histories)
    if not product.native then
      local values = quantize(x, operand.quantizer, {values = dtype_of(x), known = known}).values
      local grad = transposed_times(dy.values, values, dtype)
      free(values)
      return grad
    end
    form = quantize(x, operand.quantizer, {scale = true, transposed = true, known = known})
  end
  return scaled_matmul {
    a = dy.transposed, scale_a = dy.scale, b = form.transposed, scale_b = form.scale, dtype = dtype,
  }
end

return products

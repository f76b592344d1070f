--- The differentiable linear function y = x·Wᵀ + b, in the precision that a plan says (plan.lua), or that of x.
--
--   y  = x·Wᵀ + b   of quantized x and W
--   dx = dy·W       of quantized dy and W
--   dW = dyᵀ·x      of quantized dy and x, or of unquantized ones
--   db = Σ dy       over rows
--
-- A product takes its operands as codes with scales, which FP8 tensor cores can multiply, or as values of x's dtype.
-- The cores accumulate y fast and the gradients, which lose more by it, accurately (backend.h, scaled_matmul), as
-- torchao and Transformer Engine do.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local computable = require "fp8.computable"
local operands = require "fp8.operands"
local products = require "fp8.products"
local shapes = require "fp8.shapes"

local needs_grad, record_node = autograd.needs_grad, autograd.record
local contiguous, convert, free = core.contiguous, core.to, core.free
local view = core.view
local matmul, scaled_matmul = core.matmul, core.scaled_matmul
local dtype_of, numel, shape_of, size = core.dtype, core.numel, core.shape, core.size
local codes_of, decoded, delayed, values_of = operands.codes_of, operands.decoded, operands.delayed, operands.values_of
local scale_for, shared_forms, weight_forms = operands.scale_for, operands.shared_forms, operands.weight_forms
local as_rows, shape_text = shapes.as_rows, shapes.text
local times_transposed, transposed_times = products.times_transposed, products.transposed_times
local raise = core.raise

-- As many values of a quantized x are kept for the backward pass: making them again would cost more than it saves.
local few_values = 2^20

local function as_dtype(x, dtype)
  return dtype_of(x) == dtype and x or convert(x, {dtype = dtype})
end

-- y, and what the product for dW needs of x if it takes the same operand: its scales beside x, its transposed codes and
-- scales, or, without scales, the values that it was multiplied as.
local function forward(x, weight, bias, plan, dtype, for_weight_grad, layer, record)
  if not plan then return times_transposed(x, weight, bias) end
  local product, weight_grad = plan.forward, for_weight_grad and plan.weight_grad
  local operand = product.left
  local again = weight_grad and weight_grad.right == operand or false
  local transposing = again and weight_grad.native
  local known = delayed(x, operand, layer, record)
  if product.native then
    local codes, scale, transposed = codes_of(x, operand, plan, known, transposing)
    local weight_scale = scale_for(product, weight.scale, size(weight.codes, 1))
    local y = scaled_matmul(codes, scale, weight.codes, weight_scale, bias, dtype, true)
    free(codes)
    return y, again and scale, transposed
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
  if again and not transposing and numel(values) <= few_values then return y, nil, values end
  free(values)
  return y, scale, transposed
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

-- dy for dx and for dW, nil for what is not needed, and db. One form serves both if they take the same operand.
local function grad_forms(dy, plan, for_input, for_weight, sum_dtype, layer, record)
  local input, weight = for_input and plan.input_grad, for_weight and plan.weight_grad
  local shared = input and weight and input.left == weight.left
  local first, second
  if input then
    local wants = {
      codes = input.native, transposed = shared and weight.native,
      values = not input.native or shared and not weight.native,
    }
    first = quantized_grad(dy, input.left, plan, wants, sum_dtype, delayed(dy, input.left, layer, record))
  end
  if weight and not shared then
    local wants = {transposed = weight.native, values = not weight.native}
    second = quantized_grad(dy, weight.left, plan, wants, not first and sum_dtype or nil,
      delayed(dy, weight.left, layer, record))
  end
  local sum = (first or second).sum
  ;(first or second).sum = nil
  return first, shared and first or second, sum
end

local function input_grad(dy, weight, plan, dtype)
  local product = plan.input_grad
  if product.native then
    local weight_scale = scale_for(product, weight.scale, size(weight.transposed, 1))
    return scaled_matmul(dy.codes, dy.scale, weight.transposed, weight_scale, nil, dtype)
  end
  local values = weight.values or
    decoded(weight.codes, scale_for(product, weight.scale), product.right, dtype)
  return matmul(dy.values, values)
end

-- `scale` and `kept`: what forward returned after y.
local function quantized_weight_grad(dy, x, scale, kept, plan, dtype, layer, record)
  local product = plan.weight_grad
  local operand = product.right
  local known = operand == plan.forward.left and scale or nil
  if not known and not kept then known = delayed(x, operand, layer, record) end
  if product.native then
    local codes
    if not kept then
      codes, scale, kept = codes_of(x, operand, plan, known, true)
      free(codes)
    end
    return scaled_matmul(dy.transposed, dy.scale, kept, scale, nil, dtype)
  end
  local values = kept or values_of(x, operand, plan, known)
  local grad = transposed_times(dy.values, values, dtype)
  if not kept then free(values) end
  return grad
end

local function free_all(form)
  for _, tensor in pairs(form) do free(tensor) end
end

jit.off(free_all) -- nn/module.lua says why

local operation = {
  name = "linear",
  backward = function(node, grad, x, scale, kept)
    local plan, inputs, layer = node.plan, node.inputs, node.layer
    local dy = contiguous(as_rows(grad))
    local grad_x, grad_weight, grad_bias
    local bias_dtype = inputs[3] and inputs[3].dtype or nil
    local for_weight = inputs[2] and plan and plan.weight_grad and true or false
    if node.observer then
      node.observer("grad_output", dy, plan and inputs[1] and plan.input_grad.left,
        for_weight and plan.weight_grad.left)
    end
    if plan and (inputs[1] or for_weight) then
      local first, second
      first, second, grad_bias = grad_forms(dy, plan, inputs[1], for_weight, bias_dtype, layer, node.record)
      if first then grad_x = input_grad(first, node.weight, plan, node.dtype) end
      if for_weight then
        grad_weight = quantized_weight_grad(second, x and as_rows(x), scale, kept, plan, inputs[2].dtype, layer,
          node.record)
      end
      free_all(first or second)
      if first and second and first ~= second then free_all(second) end
    elseif inputs[1] then
      grad_x = matmul(dy, node.saved[4])
    end
    if inputs[2] and not grad_weight then
      grad_weight = transposed_times(dy, as_rows(x), inputs[2].dtype)
    end
    if inputs[3] and not grad_bias then grad_bias = core.sum(as_dtype(dy, bias_dtype), 1) end
    if grad_x and #node.input_shape ~= 2 then grad_x = view(grad_x, node.input_shape) end
    return grad_x, grad_weight, grad_bias
  end,
}

local function check(x, weight, bias)
  if not core.is_tensor(x) then raise("linear: the input must be a tensor, got " .. type(x)) end
  local dtype, weight_dtype = dtype_of(x), dtype_of(weight)
  if not computable[dtype] then raise("linear: the input must be f32, f16 or bf16, got " .. dtype) end
  if weight_dtype ~= dtype and weight_dtype ~= "f32" then
    raise(("linear: the weight must be %s, like the input, or f32, got %s"):format(dtype, weight_dtype))
  end
  if bias and not computable[dtype_of(bias)] then
    raise("linear: the bias must be f32, f16 or bf16, got " .. dtype_of(bias))
  end
  local shape, weight_shape = shape_of(x), shape_of(weight)
  if #shape < 1 or #shape > 4 then
    raise(("linear: the input must have 1 to 4 dimensions, got shape %s"):format(shape_text(shape)))
  end
  if #weight_shape ~= 2 then
    raise(("linear: the weight must have 2 dimensions, got shape %s"):format(shape_text(weight_shape)))
  end
  if shape[#shape] ~= weight_shape[2] then
    raise(("linear: input %s and weight %s: %d and %d features differ"):format(shape_text(shape),
      shape_text(weight_shape), shape[#shape], weight_shape[2]))
  end
  return shape, weight_shape[1]
end

--- y = x·Wᵀ + b.
-- @param x      (…, in), 1 to 4 dimensions, f32, f16 or bf16
-- @param weight (out, in) of x's dtype, or f32: master weights, whose gradient is f32 then
-- @param bias   (out), or nil
-- @param plan   from plan.make, or nil for products of unquantized values
-- @param layer  nil, or what keeps things from call to call: `quantized_weight`, a table for the quantized forms of the
--   weight; the histories of delayed scaling (plan.lua), which a call changes if `training` is true and its result
--   requires a gradient; and `observer`, nil or a function that is called before anything is quantized, with "weight",
--   "input" or "grad_output", that tensor, and the operands as which products take it: for "weight" y and dx, for
--   "input" y and dW, for "grad_output" dx and dW; nil or false where it is not quantized
-- @return (…, out) of x's dtype
return function(x, weight, bias, plan, layer)
  local shape, out_features = check(x, weight, bias)
  local dtype = dtype_of(x)
  local for_input_grad, for_weight_grad = needs_grad(x), needs_grad(weight)
  local recorded = for_input_grad or for_weight_grad or needs_grad(bias)
  local record = recorded and layer and layer.training or false
  local observer = layer and layer.observer
  if observer then
    observer("weight", weight, plan and plan.forward.right, plan and for_input_grad and plan.input_grad.right)
    observer("input", x, plan and plan.forward.left,
      plan and for_weight_grad and plan.weight_grad and plan.weight_grad.right)
  end
  local factor, factor_of_dx
  if plan then
    factor, factor_of_dx = weight_forms(weight, plan, for_input_grad, dtype, layer, record)
  else
    factor = as_dtype(weight, dtype)
    factor_of_dx = for_input_grad and factor
  end
  local addend = bias and as_dtype(bias, dtype) or nil
  local y, scale, kept = forward(as_rows(x), factor, addend, plan, dtype, for_weight_grad, layer, record)
  if #shape ~= 2 then
    local output_shape = {unpack(shape)}
    output_shape[#shape] = out_features
    y = view(y, output_shape)
  end
  if recorded then
    local saved_x = for_weight_grad and not kept and x or false
    local node = record_node(y, operation, {x, weight, bias or false},
      {saved_x, scale or false, kept or false, not plan and factor_of_dx or false})
    node.plan, node.input_shape, node.observer = plan, shape, observer
    if plan and plan.histories[1] then node.layer, node.record = layer, record end
    if plan and factor_of_dx then
      node.weight = shared_forms(factor_of_dx)
      node.owned = node.weight
    end
  end
  return y
end

--- The gradients of y = x·Wᵀ + b from that of y, in the precision of a plan (plan.lua), or of unquantized values.
-- db = Σ dy, over rows; dx and dW are the products of products.lua.
local core = require "fp8.core"
local as_dtype = require "fp8.linear.as_dtype"
local products = require "fp8.linear.products"
local transposed_matmul = require "fp8.ops.matmul.transposed"

local free, matmul, transpose = core.free, core.matmul, core.transpose
local transposed_times = transposed_matmul.transposed_times

local function free_all(form)
  for name, tensor in pairs(form) do
    if name ~= "signs" then free(tensor) end
  end
end

jit.off(free_all) -- nn/module.lua says why

-- Adds dyᵀ·x to `sum`.
local function add_product(sum, dy, x)
  local turned = transpose(dy, 1, 2)
  core.matmul_add_(sum, turned, x)
  free(turned)
end

-- dx and dW from the products of a plan that is not simple.
local function straight(grad_x, grad_weight, plan, context)
  local kept, forward = context.kept or {}, plan.forward
  if grad_x then
    grad_x = products.straight(grad_x, plan.input_grad, forward.left, kept.mask, kept.signs)
  end
  if grad_weight then
    grad_weight =
      products.straight(grad_weight, plan.weight_grad, forward.right, context.weight_mask, kept.signs)
  end
  return grad_x, grad_weight
end

--- dx, dW and db, nil for those whose dtype is not given.
-- @param dy      (rows, out), contiguous
-- @param x       (rows, in); nil if `context.kept` has it in the form that dW needs, or no dW is wanted
-- @param factor  W of dy's dtype, without a plan and for dx
-- @param context {plan =, observer =, histories = as linear_state.histories_of gives them, weight = the forms of W for
--   dx, weight_mask = that of W in y, kept = what products.forward returned beside y, sum_is_narrow = whether the sum
--   is to become a 16-bit gradient}
-- @param sum     (out, in), f32, or nil: to which dW is added, and which is returned in its place
-- @param source  nil, or as products.grad_forms takes it
return function(dy, x, factor, context, input_dtype, weight_dtype, bias_dtype, sum, source)
  local plan, histories = context.plan, context.histories
  local grad_x, grad_weight, grad_bias
  local for_weight = weight_dtype and plan and plan.weight_grad and true or false
  if context.observer then
    context.observer("grad_output", dy, plan and input_dtype and plan.input_grad.left,
      for_weight and plan.weight_grad.left)
  end
  if plan and (input_dtype or for_weight) then
    local first, second
    first, second, grad_bias = products.grad_forms(dy, plan, input_dtype, for_weight, bias_dtype, histories,
      source, context.weight)
    if first then grad_x = products.input_grad(first, context.weight, plan, input_dtype) end
    if for_weight then
      grad_weight = products.weight_grad(second, x, context.kept, plan, weight_dtype, histories,
        plan.is_simple and context.sum_is_narrow and sum or nil)
    end
    free_all(first or second)
    if first and second and first ~= second then free_all(second) end
  elseif input_dtype then
    grad_x = matmul(dy, factor)
  end
  if plan and not plan.is_simple then
    if weight_dtype and not grad_weight then grad_weight = transposed_times(dy, x, weight_dtype) end
    grad_x, grad_weight = straight(grad_x, grad_weight, plan, context)
  end
  if sum and weight_dtype then
    if grad_weight and grad_weight ~= sum then
      core.add_(sum, grad_weight)
      free(grad_weight)
    elseif not grad_weight then
      add_product(sum, dy, x)
    end
    grad_weight = sum
  elseif weight_dtype and not grad_weight then
    grad_weight = transposed_times(dy, x, weight_dtype)
  end
  if bias_dtype and not grad_bias then grad_bias = core.sum(as_dtype(dy, bias_dtype), 1) end
  return grad_x, grad_weight, grad_bias
end

--- linear.apply: the differentiable linear function y = x·Wᵀ + b, in the precision that a plan says (plan.lua), or that
-- of x. (The module that calls it is nn/linear.lua; fp8.Linear makes one.) db = Σ dy, over rows; the three products are
-- those of products.lua, or of unquantized values.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local computable = require "fp8.computable"
local linear_state = require "fp8.linear.state"
local operands = require "fp8.linear.operands"
local products = require "fp8.linear.products"
local shapes = require "fp8.shapes"
local transposed_matmul = require "fp8.ops.transposed_matmul"

local needs_grad, record_node = autograd.needs_grad, autograd.record
local contiguous, convert, free = core.contiguous, core.to, core.free
local dtype_of, matmul, shape_of, view = core.dtype, core.matmul, core.shape, core.view
local shared_forms, weight_forms = operands.shared_forms, operands.weight_forms
local as_rows, shape_text = shapes.as_rows, shapes.text
local times_transposed, transposed_times = transposed_matmul.times_transposed, transposed_matmul.transposed_times
local raise = core.raise

local function as_dtype(x, dtype)
  return dtype_of(x) == dtype and x or convert(x, {dtype = dtype})
end

local function free_all(form)
  for _, tensor in pairs(form) do free(tensor) end
end

jit.off(free_all) -- nn/module.lua says why

-- A node's context: {plan =, input_shape =, observer =, histories = as the call had them, weight = the forms of W for
-- dx, kept = what the forward product returned beside y}.
local operation = {
  name = "linear",
  backward = function(node, grad, x, factor)
    local context, inputs = node.context, node.inputs
    local plan, observer, histories, input_shape = context.plan, context.observer, context.histories,
      context.input_shape
    local dy = contiguous(as_rows(grad))
    local grad_x, grad_weight, grad_bias
    local bias_dtype = inputs[3] and inputs[3].dtype or nil
    local for_weight = inputs[2] and plan and plan.weight_grad and true or false
    if observer then
      observer("grad_output", dy, plan and inputs[1] and plan.input_grad.left, for_weight and plan.weight_grad.left)
    end
    if plan and (inputs[1] or for_weight) then
      local first, second
      first, second, grad_bias = products.grad_forms(dy, plan, inputs[1], for_weight, bias_dtype, histories)
      if first then grad_x = products.input_grad(first, context.weight, plan, node.dtype) end
      if for_weight then
        grad_weight = products.weight_grad(second, x and as_rows(x), context.kept, plan, inputs[2].dtype, histories)
      end
      free_all(first or second)
      if first and second and first ~= second then free_all(second) end
    elseif inputs[1] then
      grad_x = matmul(dy, factor)
    end
    if inputs[2] and not grad_weight then
      grad_weight = transposed_times(dy, as_rows(x), inputs[2].dtype)
    end
    if inputs[3] and not grad_bias then grad_bias = core.sum(as_dtype(dy, bias_dtype), 1) end
    if grad_x and #input_shape ~= 2 then grad_x = view(grad_x, input_shape) end
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
-- @param state  of the layer that calls (state.lua), or nil
-- @return (…, out) of x's dtype
return function(x, weight, bias, plan, state)
  local shape, out_features = check(x, weight, bias)
  local dtype = dtype_of(x)
  local for_input_grad, for_weight_grad = needs_grad(x), needs_grad(weight)
  local recorded = for_input_grad or for_weight_grad or needs_grad(bias)
  local histories = state and linear_state.histories_of(state, plan, recorded, weight, for_weight_grad)
  local observer = state and state.observer
  if observer then
    observer("weight", weight, plan and plan.forward.right, plan and for_input_grad and plan.input_grad.right)
    observer("input", x, plan and plan.forward.left,
      plan and for_weight_grad and plan.weight_grad and plan.weight_grad.right)
  end
  local addend = bias and as_dtype(bias, dtype) or nil
  local y, kept, factor, factor_of_dx
  if plan then
    factor, factor_of_dx = weight_forms(weight, plan, for_input_grad, dtype, state, histories)
    y, kept = products.forward(as_rows(x), factor, addend, plan, for_weight_grad, histories)
  else
    factor = as_dtype(weight, dtype)
    y = times_transposed(as_rows(x), factor, addend)
  end
  if #shape ~= 2 then
    local output_shape = {unpack(shape)}
    output_shape[#shape] = out_features
    y = view(y, output_shape)
  end
  if recorded then
    local has_x = kept and (kept.transposed or kept.values)
    local forms = factor_of_dx and shared_forms(factor_of_dx)
    local node = record_node(y, operation, {x, weight, bias or false},
      {for_weight_grad and not has_x and x or false, not plan and for_input_grad and factor or false},
      {plan = plan, input_shape = shape, observer = observer, histories = histories, weight = forms, kept = kept})
    if forms then node.owned = forms end
  end
  return y
end

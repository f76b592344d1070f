--- linear.apply: the differentiable linear function y = x·Wᵀ + b, in the precision that a plan says (plan.lua), or that
-- of x. (The module that calls it is nn/linear.lua; fp8.Linear makes one.) db = Σ dy, over rows; the three products are
-- those of products.lua, or of unquantized values.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local as_dtype = require "fp8.linear.as_dtype"
local check = require "fp8.linear.check"
local gradients = require "fp8.linear.gradients"
local linear_state = require "fp8.linear.state"
local operands = require "fp8.linear.operands"
local planning = require "fp8.linear.plan"
local products = require "fp8.linear.products"
local shapes = require "fp8.shapes"
local transposed_matmul = require "fp8.ops.matmul.transposed"

local needs_grad, record_node = autograd.needs_grad, autograd.record
local dtype_of, free, numel, share = core.dtype, core.free, core.numel, core.share
local shared_forms, weight_forms = operands.shared_forms, operands.weight_forms
local as_rows, as_shape, contiguous_rows = shapes.as_rows, shapes.as_shape, shapes.contiguous_rows
local with_features = shapes.with_features
local times_transposed = transposed_matmul.times_transposed

-- A node's context: {plan =, input_shape =, observer =, histories = as the call had them, weight = the forms of W for
-- dx, weight_mask = that of W in y, kept = what the forward product returned beside y, codes =, scale = x as the plan
-- keeps it, or nil}.
local operation = {
  name = "linear",
  backward = function(node, grad, x, factor)
    local context, inputs = node.context, node.inputs
    local input_shape = context.input_shape
    local dy, rows = contiguous_rows(grad), x and as_rows(x)
    if context.codes then rows = products.kept_values(context.codes, context.scale, context.plan, node.dtype) end
    local grad_x, grad_weight, grad_bias = gradients(dy, rows, factor, context, inputs[1] and node.dtype or nil,
      inputs[2] and inputs[2].dtype or nil, inputs[3] and inputs[3].dtype or nil)
    if grad_x and #input_shape ~= 2 then grad_x = as_shape(grad_x, input_shape) end
    if dy ~= grad then free(dy) end
    if rows ~= x then free(rows) end
    return grad_x, grad_weight, grad_bias
  end,
}

--- y = x·Wᵀ + b.
-- @param x      (…, in), 1 to 4 dimensions, f32, f16 or bf16
-- @param weight (out, in) of x's dtype, or f32: master weights, whose gradient is f32 then
-- @param bias   (out), or nil
-- @param plan   from plan.make, or nil for products of unquantized values
-- @param state  of the layer that calls (state.lua), or nil
-- @return (…, out) of x's dtype
return function(x, weight, bias, plan, state)
  local shape, out_features = check("linear", x, weight, bias)
  local dtype = dtype_of(x)
  plan = plan and planning.on(plan, x, numel(x) / shape[#shape])
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
  local y, kept, factor, factor_of_dx, codes, scale
  local rows = as_rows(x)
  if plan then
    factor, factor_of_dx = weight_forms(weight, plan, for_input_grad, dtype, state, histories)
    y, kept = products.forward(rows, factor, addend, plan, for_weight_grad, histories, for_input_grad)
    if plan.keep and for_weight_grad then codes, scale = products.keep(rows, plan) end
  else
    factor = as_dtype(weight, dtype)
    y = times_transposed(rows, factor, addend)
  end
  if rows ~= x then free(rows) end
  y = with_features(y, shape, out_features)
  if recorded then
    local has_x = codes or kept and (kept.transposed or kept.values or kept.source)
    local forms = factor_of_dx and shared_forms(factor_of_dx)
    local weight_mask = plan and for_weight_grad and factor.mask and share(factor.mask) or nil
    local node = record_node(y, operation, {x, weight, bias or false},
      {for_weight_grad and not has_x and x or false, not plan and for_input_grad and factor or false},
      {plan = plan, input_shape = shape, observer = observer, histories = histories, weight = forms,
        weight_mask = weight_mask, kept = kept, codes = codes, scale = scale})
    local owned = {codes, scale}
    owned[#owned + 1] = weight_mask
    for _, tensor in ipairs(forms or {}) do owned[#owned + 1] = tensor end
    if forms or kept or weight_mask or codes then node.owned = products.with_kept(owned, kept) end
  end
  return y
end

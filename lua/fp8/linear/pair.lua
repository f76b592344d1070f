--- linear.pair: two linear layers with an activation function between them, y = W₂·f(W₁·x + b₁) + b₂, where the values
-- of f and their gradient are quantized as they are made and never in memory themselves. The numbers are those of one
-- layer after the other (apply.lua).
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local as_dtype = require "fp8.linear.as_dtype"
local check = require "fp8.linear.check"
local fuses = require "fp8.linear.fuses"
local gradients = require "fp8.linear.gradients"
local linear_state = require "fp8.linear.state"
local operands = require "fp8.linear.operands"
local planning = require "fp8.linear.plan"
local products = require "fp8.linear.products"
local shapes = require "fp8.shapes"
local times_transposed = require("fp8.ops.matmul.transposed").times_transposed

local dtype_of, free, needs_grad = core.dtype, core.free, autograd.needs_grad
local as_rows, as_shape, contiguous_rows = shapes.as_rows, shapes.as_shape, shapes.contiguous_rows
local with_features = shapes.with_features
local quantize_activated, shared_forms = operands.quantize_activated, operands.shared_forms
local weight_forms = operands.weight_forms

local pair = {}

-- What both passes need of one layer: a context as `gradients` takes it, the forms of W for y, and of W for dx.
-- @param x (rows, in)
local function prepare(layer, x, recorded, for_input_grad)
  local plan, weight, state, dtype = layer.plan, layer.weight, layer.state, dtype_of(x)
  plan = plan and planning.on(plan, x, core.size(x, 1))
  state.training = layer.training
  local trained = needs_grad(weight)
  local histories = linear_state.histories_of(state, plan, recorded, weight, trained)
  local made = {
    context = {plan = plan, histories = histories}, trained = trained,
    bias = layer.bias and as_dtype(layer.bias, dtype) or nil,
  }
  if plan then
    made.factor, made.factor_of_dx = weight_forms(weight, plan, for_input_grad, dtype, state, histories)
  else
    made.factor = as_dtype(weight, dtype)
  end
  return made
end

-- Adds the forms of W for dx to the context and to the list of what the node owns.
local function keep_forms(made, owned)
  if not made.factor_of_dx then return end
  made.context.weight = shared_forms(made.factor_of_dx)
  for _, tensor in ipairs(made.context.weight) do owned[#owned + 1] = tensor end
end

-- A source as products.grad_forms takes it: the gradient of x from that of an activation function's result.
local function quantize_gradient(source, grad, ...) return quantize_activated(source.x, grad, source.name, ...) end

local function dtype_of_input(inputs, i) return inputs[i] and inputs[i].dtype or nil end

local operation = {
  name = "linear pair",
  backward = function(node, grad, x, hidden, factor)
    local context, inputs = node.context, node.inputs
    local first, second, for_input, for_weight = context.first, context.second, inputs[1], inputs[2]
    local below, dy, rows = for_input or for_weight or inputs[3], contiguous_rows(grad), x and as_rows(x)
    local dvalue, dweight2, dbias2 = gradients(dy, nil, nil, second, below and node.dtype or nil,
      dtype_of_input(inputs, 4), dtype_of_input(inputs, 5))
    if dy ~= grad then free(dy) end
    if not below then return {false, false, false, dweight2 or false, dbias2 or false} end
    local dhidden, source = dvalue, {x = hidden, name = context.activation, quantize = quantize_gradient}
    if not (first.plan and products.takes_source(first.plan, for_input, for_weight)) then
      dhidden, source = core[context.activation .. "_backward"](dvalue, hidden), nil
    end
    local dx, dweight1, dbias1 = gradients(dhidden, rows, factor or nil, first, dtype_of_input(inputs, 1),
      dtype_of_input(inputs, 2), dtype_of_input(inputs, 3), nil, source)
    if dhidden ~= dvalue then free(dhidden) end
    free(dvalue)
    if rows ~= x then free(rows) end
    if dx and #context.input_shape ~= 2 then dx = as_shape(dx, context.input_shape) end
    return {dx or false, dweight1 or false, dbias1 or false, dweight2 or false, dbias2 or false}
  end,
}

--- Whether two layers make a pair: what is quantized of the values between them can be made from what the first one
-- gives.
function pair.suits(first, second)
  local plan = second.plan
  if not plan or plan.keep or first.plan and first.plan.keep then return false end
  if first.state.observer or second.state.observer or not fuses(plan, first.plan) then return false end
  return products.takes_activated(plan, needs_grad(second.weight))
end

--- y = W₂·f(W₁·x + b₁) + b₂, of layers that suit.
-- @param x          (…, in), 1 to 4 dimensions, f32, f16 or bf16
-- @param first, second fp8.Linear layers (nn/linear.lua)
-- @param activation "relu", "gelu", "gelu_tanh" or "silu"
-- @return (…, out) of x's dtype
function pair.apply(x, first, activation, second)
  local shape = check("linear", x, first.weight, first.bias)
  local below = needs_grad(x, first.weight, first.bias)
  local recorded = below or needs_grad(second.weight, second.bias)
  local rows = as_rows(x)
  local one = prepare(first, rows, below, needs_grad(x))
  local plan = one.context.plan
  local hidden
  if plan then
    hidden, one.context.kept = products.forward(rows, one.factor, one.bias, plan, one.trained, one.context.histories)
  else
    hidden = times_transposed(rows, one.factor, one.bias)
  end
  local _, out_features = check("linear", hidden, second.weight, second.bias)
  local two = prepare(second, hidden, recorded, below)
  local y
  y, two.context.kept = products.forward_of_activated(hidden, activation, two.factor, two.bias, two.context.plan,
    two.trained, two.context.histories)
  y = with_features(y, shape, out_features)
  if rows ~= x then free(rows) end
  if not recorded then
    free(hidden)
    return y
  end
  local kept = one.context.kept
  local owned = products.with_kept(products.with_kept({hidden}, kept), two.context.kept)
  keep_forms(one, owned)
  keep_forms(two, owned)
  local has_x = kept and (kept.transposed or kept.values)
  local inputs = {x, first.weight, first.bias or false, second.weight, second.bias or false}
  local node = autograd.record(y, operation, inputs,
    {one.trained and not has_x and x or false, hidden, not plan and needs_grad(x) and one.factor or false},
    {first = one.context, second = two.context, activation = activation, input_shape = shape})
  node.owned = owned
  return y
end

return pair

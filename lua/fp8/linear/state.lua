--- What a linear layer keeps from call to call beside its weight and bias, for linear.apply (apply.lua). Fields:
--
--   quantized_weight  the last quantized forms of the weight, by operand of the plan (operands.lua)
--   histories         the table that holds the histories of delayed scaling, each under its operand's `history_field`:
--                     the layer itself, to whose state_dict they belong
--   training          whether calls enter the histories
--   recorded          by `history_field`: the contents that the weight had when something last entered that history,
--                     false before
--   observer          nil, or a function that is called before anything is quantized, with "weight", "input" or
--                     "grad_output", that tensor, and the operands as which products take it: for "weight" y and dx,
--                     for "input" y and dW, for "grad_output" dx and dW; nil or false where it is not quantized
local changes = require "fp8.changes"
local core = require "fp8.core"

local linear_state = {}

--- The state of a new layer.
function linear_state.new(layer)
  return {quantized_weight = {}, histories = layer, training = true, recorded = {}, observer = nil}
end

--- Forgets what was kept for the plan `before`, if any, and makes the histories of the next one, if any, all 0; to be
-- called inside changes.together.
function linear_state.renew(state, before, plan, device)
  local histories = state.histories
  local recorded = {}
  changes.set(state, "quantized_weight", {})
  changes.set(state, "recorded", recorded)
  for _, operand in ipairs(before and before.histories or {}) do changes.set(histories, operand.history_field, nil) end
  for _, operand in ipairs(plan and plan.histories or {}) do
    recorded[operand.history_field] = false
    changes.set(histories, operand.history_field, core.zeros({operand.history}, {dtype = "f32", device = device}))
  end
end

--- The histories that one call reads, {tensors =, record = whether what is quantized enters them, recorded =,
-- contents = of the weight}; nil for a plan without any. Evaluation, with fp8.no_grad or in a layer that is not in
-- training, leaves them as they are. An element of a history is a step of training: all calls between two changes of
-- the weight. A weight that is not trained does not tell: then it is a call.
-- @param requires_grad whether the call's result does
-- @param trained       whether the weight requires a gradient
function linear_state.histories_of(state, plan, requires_grad, weight, trained)
  if not (plan and plan.histories[1]) then return nil end
  return {
    tensors = state.histories, record = requires_grad and state.training or false, recorded = state.recorded,
    contents = trained and core.contents(weight) or nil,
  }
end

return linear_state

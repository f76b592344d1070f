--- The steps of one direction of one recurrent layer, one after the other, as one operation: a product and the gates
-- (core.recurrent_step) a step, and in the backward pass one product over all steps for the gradient of the weight.
local autograd = require "fp8.autograd"
local as_dtype = require "fp8.linear.as_dtype"
local core = require "fp8.core"
local shapes = require "fp8.shapes"
local transposed_matmul = require "fp8.ops.matmul.transposed"
local view = require "fp8.ops.view"

local free, matmul, needs_grad, select = core.free, core.matmul, autograd.needs_grad, core.select
local as_shape, shape_of = shapes.as_shape, core.shape

local function free_all(list)
  for i = 1, #list do free(list[i]) end
end

-- All steps of a list of (rows, features) as (steps · rows, features); the list is used up.
local function joined(list)
  local whole = core.stack(list, 1)
  free_all(list)
  local shape = shape_of(whole)
  return as_shape(whole, {shape[1] * shape[2], shape[3]})
end

-- context: {places = the position of each step in the order of computing, hidden = the state before the first step and
-- after each, cells = the same of an LSTM's cells, saved = of each step}
local operation = {
  name = "recurrence",
  backward = function(node, grad, weight)
    local context, inputs, whole = node.context, node.inputs, core.contiguous(grad)
    local places, cells, hidden = context.places, context.cells, context.hidden
    local steps = #places
    local from_inputs, from_hiddens, before = {}, {}, {}
    local grad_hidden, grad_cell = nil, cells and select(whole, 1, steps + 1)
    for step = steps, 1, -1 do
      local place = places[step]
      local arrived = select(whole, 1, place)
      if grad_hidden then
        local sum = core.add(arrived, grad_hidden)
        free(arrived)
        free(grad_hidden)
        arrived = sum
      end
      local state = cells or hidden
      local grad_state, from_input, from_hidden = core.recurrent_step_backward(context.saved[step], state[step],
        arrived, cells and cells[step + 1], grad_cell or nil)
      free(arrived)
      grad_hidden = (step > 1 or inputs[4]) and matmul(from_hidden or from_input, weight) or nil
      if cells then
        free(grad_cell)
        grad_cell = grad_state
      else
        if grad_hidden then core.add_(grad_hidden, grad_state) end
        free(grad_state)
      end
      from_inputs[place], from_hiddens[place], before[place] = from_input, from_hidden, core.share(hidden[step])
    end
    if whole ~= grad then free(whole) end
    local gates = joined(from_inputs)
    local own = cells and gates or joined(from_hiddens)
    local rows, grad_weight, grad_bias = joined(before), nil, nil
    if inputs[2] then
      grad_weight = transposed_matmul.transposed_times(own, rows, inputs[2].dtype == "f32" and "f32" or nil)
    end
    if inputs[3] then grad_bias = core.sum(own, {1}) end
    free(rows)
    if own ~= gates then free(own) end
    return {as_shape(gates, context.gates_shape), grad_weight, grad_bias, grad_hidden or nil, grad_cell or nil}
  end,
}

--- @param gates    (steps, rows, 3 or 4 · hidden): what they get from the inputs
-- @param weight   (3 or 4 · hidden, hidden), of their dtype or f32
-- @param bias     (3 or 4 · hidden), or nil
-- @param hidden   (rows, hidden): the hidden state before the first step
-- @param cell     the same of an LSTM, nil for a GRU
-- @param backwards whether the last step comes first
-- @return (steps, rows, hidden): the hidden states; the last one; and of an LSTM the last cell
return function(gates, weight, bias, hidden, cell, backwards)
  local dtype, steps = core.dtype(gates), core.size(gates, 1)
  local factor, addend = as_dtype(weight, dtype), bias and as_dtype(bias, dtype) or nil
  local turned, whole = core.transpose(factor, 1, 2), core.contiguous(gates)
  local places, saved = {}, {}
  local hiddens = {core.contiguous(hidden)}
  local cells = cell and {core.contiguous(cell)} or nil
  local outputs, made = {}, {} -- made: what is freed with the graph
  for step = 1, steps do
    local place = backwards and steps + 1 - step or step
    local from_input = select(whole, 1, place)
    local from_hidden = matmul(hiddens[step], turned, addend)
    local state, kept, after = core.recurrent_step(from_input, from_hidden, (cells or hiddens)[step])
    free(from_input)
    free(from_hidden)
    places[step], saved[step], hiddens[step + 1], outputs[place] = place, kept, after or state, after or state
    made[#made + 1], made[#made + 2] = kept, state
    if cells then
      cells[step + 1] = state
      made[#made + 1] = after
    end
  end
  outputs[steps + 1] = cells and cells[steps + 1] or nil
  local all = core.stack(outputs, 1)
  free(turned)
  if whole ~= gates then free(whole) end
  if needs_grad(gates, weight, bias) or needs_grad(hidden, cell) then
    local node = autograd.record(all, operation, {gates, weight, bias or false, hidden, cell or false},
      {factor, hidden, cell or false},
      {places = places, hidden = hiddens, cells = cells, saved = saved, gates_shape = shape_of(gates)})
    node.owned = made
  else
    free_all(made)
  end
  local last = view.select(all, 1, places[steps])
  if not cells then return all, last end
  return view.narrow(all, 1, 1, steps), last, view.select(all, 1, steps + 1)
end

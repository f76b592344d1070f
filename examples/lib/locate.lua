--- Finds where a number that is not finite first appeared: a stretch of training is repeated from a copy of its start,
-- with fp8.watch.find looking at every tensor.
local fp8 = require "fp8"

local locate = {}

local function same_shape(a, b)
  return #a.shape == #b.shape and table.concat(a.shape, " ") == table.concat(b.shape, " ")
end

-- Copies the tensors of a table into another one, or a new one.
local function copy_tensors(source, target)
  target = target or {}
  for name, tensor in pairs(source) do
    if target[name] and same_shape(target[name], tensor) then
      target[name]:copy_(tensor)
    else
      target[name] = tensor:clone()
    end
  end
  return target
end

--- A copy of a model and its optimizer; `before` is an earlier one, whose memory is used again.
function locate.snapshot(model, optimizer, before)
  before = before or {}
  return {
    model = copy_tensors(model:state_dict(), before.model),
    optimizer = copy_tensors(optimizer:state_dict(), before.optimizer),
  }
end

--- Repeats the steps first to last from a snapshot.
-- @param compute compute(step) computes the loss and the gradients of a step, and returns the loss
-- @param update  update() changes the parameters
-- @return the step, and what fp8.watch.find found in it; nil if all was finite this time
function locate.find(model, optimizer, snapshot, first, last, compute, update)
  model:load_state_dict(snapshot.model)
  optimizer:load_state_dict(snapshot.optimizer)
  for step = first, last do
    local found = fp8.watch.find(model, function() return compute(step) end)
    if found then return step, found end
    update()
  end
end

return locate

--- Finds where a number that is not finite first appeared: a stretch of training is repeated from a copy of its start,
-- with fp8.watch.find looking at every tensor.
local fp8 = require "fp8"

local locate = {}

local function same_shape(a, b)
  return #a.shape == #b.shape and table.concat(a.shape, " ") == table.concat(b.shape, " ")
end

-- Copies the tensors of a table into another one, or a new one, which has no others then.
local function copy_tensors(source, target)
  target = target or {}
  for name in pairs(target) do
    if not source[name] then target[name] = nil end
  end
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

--- Whether a list of float tensors holds no NaN and no infinity. Waits for the device once.
function locate.all_finite(tensors)
  return fp8.no_grad(fp8.scope, function()
    local sum = 0 -- of zeros, and of NaN for every tensor that is not finite
    for _, tensor in ipairs(tensors) do sum = tensor:abs():max() * 0 + sum end
    return sum:item() == 0
  end)
end

--- Repeats the steps first to last from a snapshot.
-- @param run {compute = compute(step), which computes the loss and the gradients of a step, and returns the loss;
--   update = update(), which changes the parameters; look = look(), which computes with those after the last step}
-- @return in words, the step in or after which fp8.watch.find found something, and what; nil if all was finite
function locate.find(model, optimizer, snapshot, first, last, run)
  model:load_state_dict(snapshot.model)
  optimizer:load_state_dict(snapshot.optimizer)
  for step = first, last do
    local found = fp8.watch.find(model, function() return run.compute(step) end)
    if found then return ("in step %d: %s"):format(step, tostring(found)) end
    run.update()
  end
  local found = fp8.watch.find(model, function() return fp8.no_grad(run.look) end)
  return found and ("after step %d: %s"):format(last, tostring(found))
end

return locate

--- Finds where a number that is not finite first appears: a stretch of training is repeated from a copy of its start,
-- with a look at every output, every gradient and every parameter.
local fp8 = require "fp8"

local locate = {}

-- Copies what a table holds, its tensors by their values, into another one of the same build or a new one.
local function copy_tensors(source, target)
  target = target or {}
  for key, value in pairs(source) do
    if fp8.is_tensor(value) then
      local old = target[key]
      if old and #old.shape == #value.shape and #old == #value then old:copy_(value) else target[key] = value:clone() end
    elseif type(value) == "table" then
      target[key] = copy_tensors(value, target[key])
    else
      target[key] = value
    end
  end
  return target
end

--- A copy of a model and its optimizer; `before` is an earlier one, whose memory is used again.
function locate.snapshot(model, optimizer, before)
  return copy_tensors({model = model:state_dict(), optimizer = optimizer:state_dict()}, before)
end

local function is_finite(tensor)
  -- Zero times what is finite is zero; anything else is NaN.
  local sum = (tensor:detach():float() * 0):sum():item()
  return sum == sum
end

-- Calls visit(module, name) for a module and all its parts.
local function each_module(module, visit, prefix)
  visit(module, prefix)
  for name, part in pairs(module) do
    if fp8.nn.Module.is_module(part) then
      each_module(part, visit, prefix == "" and tostring(name) or prefix .. "." .. name)
    end
  end
end

-- Has every module note its output; returns the list of {name =, module =, output =} in the order of the calls, which
-- grows, and a function that ends this.
local function observe(model)
  local calls, observed = {}, {}
  each_module(model, function(module, name)
    if observed[module] then return end
    local forward = module.forward
    observed[module] = true
    module.forward = function(...)
      local output = forward(...)
      if fp8.is_tensor(output) then
        if output.requires_grad then output:retain_grad() end
        calls[#calls + 1] = {name = name == "" and "the model" or name, module = module, output = output}
      end
      return output
    end
  end, "")
  return calls, function()
    for module in pairs(observed) do module.forward = nil end
  end
end

-- What is not finite in a step that was just taken, or nil. Parts end before what they are parts of, and gradients come
-- in the opposite order.
local function first_wrong(model, calls, loss)
  for _, call in ipairs(calls) do
    if not is_finite(call.output) then return "the output of " .. call.name end
  end
  if not is_finite(loss) then return "the loss" end
  for i = #calls, 1, -1 do
    local grad = calls[i].output.grad
    if grad and not is_finite(grad) then return "the gradient of the output of " .. calls[i].name end
  end
  for name, parameter in model:named_parameters() do
    if parameter.grad and not is_finite(parameter.grad) then return "the gradient of " .. name end
  end
  for name, parameter in model:named_parameters() do
    if not is_finite(parameter) then return name .. " after the optimizer's step" end
  end
end

--- Repeats the steps first to last from a snapshot.
-- @param step step(n) takes one and returns its loss
-- @return the step, and in words the tensor; nil if all was finite this time
function locate.find(model, optimizer, snapshot, first, last, step)
  model:load_state_dict(snapshot.model)
  optimizer:load_state_dict(snapshot.optimizer)
  for n = first, last do
    local calls, stop = observe(model)
    local ok, loss = pcall(step, n)
    stop()
    if not ok then error(loss, 0) end
    local wrong = first_wrong(model, calls, loss)
    if wrong then return n, wrong end
  end
end

return locate

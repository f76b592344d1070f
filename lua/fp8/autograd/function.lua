--- fp8.Function: differentiable operations written in Lua.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local shapes = require "fp8.shapes"

local raise = core.raise

-- What forward and backward share: fields of the user's own, and tensors that are checked for changes.
local Context = {}
Context.__index = Context

--- Keeps tensors (or other values) for the backward function.
function Context:save(...)
  local saved, versions = {n = select("#", ...), ...}, {}
  for i = 1, saved.n do versions[i] = core.is_tensor(saved[i]) and core.version(saved[i]) end
  self.saved_values, self.saved_versions = saved, versions
end

--- The values given to save; an error if one of the tensors has been changed in place since.
function Context:saved()
  local saved = self.saved_values
  if not saved then return end
  for i = 1, saved.n do
    if self.saved_versions[i] then
      autograd.check_versions(self.name, {saved[i]}, {self.saved_versions[i]})
    end
  end
  return unpack(saved, 1, saved.n)
end

local function check_gradient(name, position, grad, input)
  if not core.is_tensor(grad) then
    raise(("%s: gradient %d of its backward must be a tensor or nil, got %s"):format(name, position, type(grad)))
  end
  local have, need = core.shape(grad), input.shape
  local fits = #have >= #need
  for i = 0, #need - 1 do
    local size = need[#need - i]
    fits = fits and (size == 1 or have[#have - i] == size)
  end
  if not fits then
    raise(("%s: gradient %d of its backward has shape %s, its input %s"):format(name, position, shapes.text(have),
      shapes.text(need)))
  end
end

local function check_gradients(node, ...)
  local name, inputs, count = node.operation.name, node.inputs, select("#", ...)
  if count ~= #inputs then
    raise(("%s: its backward returned %d gradients for %d inputs (nil for an input without one)"):format(name, count,
      #inputs))
  end
  local grads = {...}
  for i = 1, count do
    if grads[i] ~= nil and inputs[i] then check_gradient(name, i, grads[i], inputs[i]) end
  end
  -- As handles of the tape's own, since the script may keep what it returns.
  for i = 1, count do grads[i] = grads[i] and core.share(grads[i]) or false end
  return grads
end

local function check_definition(definition)
  if type(definition) ~= "table" then raise("Function: a table is needed, got " .. type(definition)) end
  for _, field in ipairs {"forward", "backward"} do
    if type(definition[field]) ~= "function" then
      raise(("Function: field %s must be a function, got %s"):format(field, type(definition[field])))
    end
  end
  if definition.name ~= nil and type(definition.name) ~= "string" then
    raise("Function: field name must be a string, got " .. type(definition.name))
  end
end

--- Makes a differentiable operation.
--
--   local square = fp8.Function{
--     name = "square",
--     forward = function(ctx, x) ctx:save(x) return x * x end,
--     backward = function(ctx, grad_output) return 2 * grad_output * ctx:saved() end,
--   }
--
-- forward(ctx, …) gets the call's arguments and returns one tensor; backward(ctx, grad_output) returns one gradient
-- an argument (nil for none), of the argument's shape or one that broadcasting made of it. Neither is recorded. `ctx`
-- carries tensors through ctx:save(…) and ctx:saved(), other values in fields; ctx.needs_grad[i] says which gradients
-- will be used.
-- @return a function
--   local double = fp8.Function {
--     forward = function(_, x) return x * 2 end, backward = function(_, grad) return grad * 2 end,
--   }
--   double(fp8.tensor {1, 2}) --> {2, 4}
return function(definition)
  check_definition(definition)
  local forward, backward, name = definition.forward, definition.backward, definition.name or "Function"
  local operation = {
    name = name,
    shares = true,
    exposes = true,
    backward = function(node, grad)
      return check_gradients(node, autograd.no_grad(backward, node.context, grad))
    end,
  }
  return function(...)
    local count, inputs = select("#", ...), {...}
    local context, recorded = setmetatable({name = name, needs_grad = {}}, Context), false
    for i = 1, count do
      inputs[i] = core.is_tensor(inputs[i]) and inputs[i] or false
      context.needs_grad[i] = autograd.needs_grad(inputs[i])
      recorded = recorded or context.needs_grad[i]
    end
    local output = autograd.no_grad(forward, context, ...)
    if not core.is_tensor(output) then raise(name .. ": its forward must return a tensor, got " .. type(output)) end
    if not recorded then return output end
    -- A tensor of its own, since forward may return an argument or one that it keeps.
    output = core.expand(output, core.shape(output))
    autograd.record(output, operation, inputs, nil, context)
    return output
  end
end

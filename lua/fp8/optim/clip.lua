--- fp8.optim.clip_grad_norm.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local parameters = require "fp8.optim.parameters"

local raise = core.raise
local name = "clip_grad_norm"

--- Scales all gradients in place by min(1, largest / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_ does, where norm
-- is the root of the sum of the squares of all their elements. Waits for nothing, and works in graphs.
-- @param source  a module or a list of tensors; those without a gradient do not count
-- @param largest a number of at least 0; math.huge only measures
-- @return norm before scaling, an f32 tensor without dimensions on the gradients' device; if it is NaN, so are the
--   gradients
--   local x = fp8.ones(2, {requires_grad = true});
--   (x * fp8.tensor {3, 4}):sum():backward()
--   fp8.optim.clip_grad_norm({x}, 1):item() --> 5
return function(source, largest)
  local list, grads = parameters.list(name, source), {}
  if type(largest) ~= "number" or not (largest >= 0) then
    raise(("%s: the largest norm must be a number of at least 0, got %s"):format(name, tostring(largest)))
  end
  for _, parameter in ipairs(list) do grads[#grads + 1] = autograd.grad(parameter) end
  if #grads > 0 then return core.clip_grad_norm(grads, largest) end
  if #list == 0 then raise(name .. ": a module or a list of parameters is needed, with at least one parameter") end
  return core.zeros({}, {dtype = "f32", device = core.device(list[1])})
end

--- fp8.optim.clip_grad_norm.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local later = require "fp8.later"
local parameters = require "fp8.optim.parameters"

local raise = core.raise
local name = "clip_grad_norm"

-- The same where `cut` are gradients of which each rank has a part: the norm over all of them follows from those of the
-- parts, with what is the same everywhere counted once.
local function clip_parts(whole, cut, largest)
  local distributed, parts = later "fp8.distributed", later "fp8.distributed.parts"
  local measured, scaled = {}, {}
  for i, grad in ipairs(cut) do measured[i], scaled[i] = parts.own(grad), parts.own(grad) end
  for _, grad in ipairs(whole) do
    if distributed.rank() == 0 then measured[#measured + 1] = grad end
    scaled[#scaled + 1] = grad
  end
  table.insert(scaled, 1, distributed.all_gather(core.clip_grad_norm(measured, math.huge)))
  return core.clip_grad_norm(scaled, largest, 1)
end

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
  local list, whole, cut = parameters.list(name, source), {}, {}
  if type(largest) ~= "number" or not (largest >= 0) then
    raise(("%s: the largest norm must be a number of at least 0, got %s"):format(name, tostring(largest)))
  end
  for _, parameter in ipairs(list) do
    local grad = autograd.grad(parameter)
    local kind = grad and autograd.partial[grad] and cut or whole
    kind[#kind + 1] = grad
  end
  if #cut > 0 then return clip_parts(whole, cut, largest) end
  if #whole > 0 then return core.clip_grad_norm(whole, largest) end
  if #list == 0 then raise(name .. ": a module or a list of parameters is needed, with at least one parameter") end
  return core.zeros({}, {dtype = "f32", device = core.device(list[1])})
end

--- Masks of attention: which keys a query sees, as u8 tensors whose ones take part, or float ones that are added to the
-- scores.
local core = require "fp8.core"
local computable = require "fp8.computable"
local elementwise = require "fp8.ops.elementwise"
local shape_text = require("fp8.shapes").text

local raise = core.raise

local mask = {}

--- Raises an error unless a mask broadcasts to scores of a shape.
function mask.check(name, option, value, shape, device)
  if not core.is_tensor(value) then
    raise(("%s: option %s must be a tensor, got %s"):format(name, option, type(value)))
  end
  local dtype, own = core.dtype(value), core.shape(value)
  if dtype ~= "u8" and not computable[dtype] then
    raise(("%s: option %s must be u8, whose ones take part, or f32, f16 or bf16, which is added to the scores, got %s")
      :format(name, option, dtype))
  end
  if core.device(value) ~= device then
    raise(("%s: option %s is on %s, the others are on %s"):format(name, option, core.device(value), device))
  end
  local added, fits = #shape - #own, #own <= #shape
  for i = 1, #own do fits = fits and (own[i] == 1 or own[i] == shape[added + i]) end
  if not fits then
    raise(("%s: option %s must broadcast to the scores, %s, got shape %s"):format(name, option, shape_text(shape),
      shape_text(own)))
  end
end

--- scale · scores under a mask, in place of scores, which are used up.
function mask.apply(scores, scale, value)
  core.mul_(scores, scale)
  if core.dtype(value) ~= "u8" then return core.add_(scores, value) end
  local masked = core.where(value, scores, -math.huge)
  core.free(scores)
  return masked
end

--- Two masks, either of which may be nil, as one.
function mask.both(a, b)
  if not a or not b then return a or b end
  local a_chooses, b_chooses = core.dtype(a) == "u8", core.dtype(b) == "u8"
  if a_chooses and b_chooses then return elementwise.logical_and(a, b) end
  if a_chooses then return elementwise.where(a, b, -math.huge) end
  if b_chooses then return elementwise.where(b, a, -math.huge) end
  return elementwise.add(a, b)
end

return mask

--- Shapes that broadcast, as NumPy's do.
local raise = require("fp8.core").raise
local shape_text = require("fp8.shapes").text

local broadcast = {}

--- The shape that two shapes broadcast to, as a new list; an error in the name of a function if there is none.
function broadcast.shape(name, shape, other)
  local rank, result = math.max(#shape, #other), {}
  for i = 1, rank do
    local a, b = shape[#shape - rank + i] or 1, other[#other - rank + i] or 1
    if a ~= b and a ~= 1 and b ~= 1 then
      raise(("%s: shapes %s and %s don't broadcast"):format(name, shape_text(shape), shape_text(other)))
    end
    result[i] = a == 1 and b or a
  end
  return result
end

--- An error unless `shape`, of `what`, broadcasts to `target`.
function broadcast.check(name, what, shape, target)
  local fits = #shape <= #target
  for i = 0, #shape - 1 do
    local size = shape[#shape - i]
    fits = fits and (size == 1 or size == target[#target - i])
  end
  if not fits then
    raise(("%s: %s of shape %s does not broadcast to %s"):format(name, what, shape_text(shape), shape_text(target)))
  end
end

return broadcast

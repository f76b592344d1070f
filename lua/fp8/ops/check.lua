--- Checks of arguments of operations that are written in Lua: errors as the core's, which name the function.
local core = require "fp8.core"
local is_whole = require "fp8.is_whole"
local list_length = require "fp8.list_length"
local shape_text = require("fp8.shapes").text

local raise = core.raise

local check = {}

--- Argument `position`, which must be a tensor, and of `rank` dimensions if that is given.
function check.tensor(name, position, x, rank)
  if not core.is_tensor(x) then
    raise(("%s: argument %d: tensor expected, got %s"):format(name, position, type(x)))
  end
  if rank and core.rank(x) ~= rank then
    raise(("%s: argument %d: a tensor of %d dimension%s is needed, got shape %s"):format(name, position, rank,
      rank == 1 and "" or "s", shape_text(core.shape(x))))
  end
  return x
end

--- Argument `position`, which must be a mask: a u8 tensor.
function check.mask(name, position, mask)
  check.tensor(name, position, mask)
  if core.dtype(mask) ~= "u8" then
    raise(("%s: argument %d: a mask of dtype u8 is needed, as x:gt(0) gives one, got %s"):format(name, position,
      core.dtype(mask)))
  end
  return mask
end

--- A whole number of at least `least`.
function check.whole(name, what, value, least)
  if not is_whole(value, least) then
    local bound = least > -2 ^ 53 and (" from %d on"):format(least) or ""
    raise(("%s: %s must be a whole number%s, got %s"):format(name, what, bound, tostring(value)))
  end
  return value
end

--- A dimension of x, counted from 1; negative ones count from the end.
function check.dimension(name, x, dimension)
  check.tensor(name, 1, x)
  local rank = core.rank(x)
  if type(dimension) ~= "number" or dimension ~= math.floor(dimension) or dimension == 0 or
    math.abs(dimension) > rank then
    raise(("%s: dimension %s of a tensor of %d dimensions"):format(name, tostring(dimension), rank))
  end
  return dimension < 0 and dimension + rank + 1 or dimension
end

--- A table, or what stands in its place, one value or several, as a list without holes.
function check.list(name, what, first, ...)
  local list = type(first) == "table" and first or {first, ...}
  list_length(("%s: %s"):format(name, what), list)
  return list
end

return check

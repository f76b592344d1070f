--- Helpers for shapes, which are lists of sizes.
local core = require "fp8.core"

local shapes = {}

--- "(3, 4)"
function shapes.text(shape) return "(" .. table.concat(shape, ", ") .. ")" end

--- A tensor as a matrix: all dimensions but the last one are rows. Not recorded.
function shapes.as_rows(x)
  local shape = core.shape(x)
  if #shape == 2 then return x end
  local rows = 1
  for i = 1, #shape - 1 do rows = rows * shape[i] end
  local whole = core.contiguous(x)
  local matrix = core.view(whole, {rows, shape[#shape]})
  if whole ~= x then core.free(whole) end
  return matrix
end

--- `x`, which nothing else has, with another shape. Not recorded.
function shapes.as_shape(x, shape)
  local y = core.view(x, shape)
  core.free(x)
  return y
end

return shapes

--- Helpers for shapes, which are lists of sizes.
local core = require "fp8.core"

local shapes = {}

--- "(3, 4)"
function shapes.text(shape) return "(" .. table.concat(shape, ", ") .. ")" end

--- "{2, 3}": where element number `i` in row-major order is in a tensor of this shape, all counted from 1.
function shapes.position(i, shape)
  local list, rest = {}, i - 1
  for dimension = #shape, 1, -1 do
    list[dimension] = rest % shape[dimension] + 1
    rest = math.floor(rest / shape[dimension])
  end
  return "{" .. table.concat(list, ", ") .. "}"
end

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

--- A tensor as a contiguous matrix. Not recorded.
function shapes.contiguous_rows(x)
  local rows = shapes.as_rows(x)
  local matrix = core.contiguous(rows)
  if rows ~= matrix and rows ~= x then core.free(rows) end
  return matrix
end

--- A matrix that nothing else has, (rows, features), as a tensor of these rows: `shape` has their sizes, and another
-- last one. Not recorded.
function shapes.with_features(matrix, shape, features)
  if #shape == 2 then return matrix end
  local whole = {unpack(shape)}
  whole[#shape] = features
  return shapes.as_shape(matrix, whole)
end

return shapes

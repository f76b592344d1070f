--- Reductions in double.
local function reducer(name, values)
  if name == "prod" or name == "norm" then
    local result = name == "prod" and 1 or 0
    for _, value in ipairs(values) do result = name == "prod" and result * value or result + value * value end
    return name == "prod" and result or math.sqrt(result)
  end
  if name == "sum" or name == "mean" then
    local sum = 0
    for _, value in ipairs(values) do sum = sum + value end
    return name == "sum" and sum or sum / #values
  end
  local best, position = values[1], 0
  for i, value in ipairs(values) do
    local better = name:find "min" and value < best or name:find "max" and value > best
    if better then best, position = value, i - 1 end
  end
  return name:find "arg" and position or best
end

--- Reduces over the set `reduced` of dimensions by walking the elements.
-- @param name sum, mean, prod, norm, max, min, argmax or argmin
-- @param list the elements, row-major
-- @return values, the shape without the reduced dimensions, and the one with their sizes 1
return function(name, list, shape, reduced)
  local strides, stride = {}, 1
  for d = #shape, 1, -1 do
    strides[d], stride = stride, stride * shape[d]
  end
  local function walk(dimensions, i, offset, visit)
    if i > #dimensions then return visit(offset) end
    local d = dimensions[i]
    for k = 0, shape[d] - 1 do walk(dimensions, i + 1, offset + k * strides[d], visit) end
  end
  local kept, gone = {}, {}
  for d = 1, #shape do table.insert(reduced[d] and gone or kept, d) end
  local result = {}
  walk(kept, 1, 0, function(start)
    local values = {}
    walk(gone, 1, start, function(offset) table.insert(values, list[offset + 1]) end)
    table.insert(result, reducer(name, values))
  end)
  local kept_shape, full_shape = {}, {}
  for d = 1, #shape do
    full_shape[d] = reduced[d] and 1 or shape[d]
    if not reduced[d] then table.insert(kept_shape, shape[d]) end
  end
  return result, kept_shape, full_shape
end

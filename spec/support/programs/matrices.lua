--- Matrices of bounds: {rows =, columns =, list =}, row-major.
local bound = require "spec.support.reference.bound"
local operation = require "spec.support.programs.operation"
local tensor = require "spec.support.reference.tensor"

local exact, map = bound.exact, operation.map

local matrices = {}

function matrices.new(list, rows, columns) return {rows = rows, columns = columns, list = list} end

function matrices.transposed(a)
  local list = {}
  for j = 0, a.columns - 1 do
    for i = 0, a.rows - 1 do list[j * a.rows + i + 1] = a.list[i * a.columns + j + 1] end
  end
  return matrices.new(list, a.columns, a.rows)
end

function matrices.row(a, i) return {unpack(a.list, i * a.columns + 1, (i + 1) * a.columns)} end

function matrices.product(a, b)
  local columns, list = matrices.transposed(b), {}
  for i = 0, a.rows - 1 do
    local left = matrices.row(a, i)
    for j = 0, b.columns - 1 do list[#list + 1] = bound.dot(left, matrices.row(columns, j)) end
  end
  return matrices.new(list, a.rows, b.columns)
end

function matrices.converted(a, dtype)
  return matrices.new(map(function(value) return bound.to(dtype, value) end, a.list), a.rows, a.columns)
end

-- Elements first … last; unpack can't return as many as a matrix may have.
local function slice(list, first, last)
  local result = {}
  for i = first, last do result[#result + 1] = list[i] end
  return result
end

--- The matrices of the last two dimensions of a tensor.
function matrices.of_tensor(x)
  local rows, columns = x.shape[#x.shape - 1], x.shape[#x.shape]
  local list, result = map(exact, tensor.list(x)), {}
  for i = 0, tensor.count {unpack(x.shape, 1, #x.shape - 2)} - 1 do
    result[i + 1] = matrices.new(slice(list, i * rows * columns + 1, (i + 1) * rows * columns), rows, columns)
  end
  return result
end

--- A list of bounds as matrices of these rows and columns.
function matrices.of_list(list, rows, columns)
  local result = {}
  for start = 1, #list, math.max(rows * columns, 1) do
    result[#result + 1] = matrices.new(slice(list, start, start + rows * columns - 1), rows, columns)
  end
  return result
end

function matrices.joined(list)
  local result = {}
  for _, a in ipairs(list) do
    for _, value in ipairs(a.list) do result[#result + 1] = value end
  end
  return result
end

--- The numbers of NaN and infinity in products are not worked out: such elements may be anything.
function matrices.any_if_unbounded(list)
  return map(function(value) return value[2] ~= math.huge and value end, list)
end

return matrices

--- Triangles and diagonals of matrices.
local arrange = require "fp8.ops.arrange"
local check = require "fp8.ops.check"
local core = require "fp8.core"
local elementwise = require "fp8.ops.elementwise"
local index = require "fp8.ops.index"
local join = require "fp8.ops.join"
local reduce = require "fp8.ops.reduce"
local shape_text = require("fp8.shapes").text
local view = require "fp8.ops.view"

local raise = core.raise

local triangle = {}

-- For each element of matrices of so many rows and columns, its column less its row.
local function diagonals(rows, columns, device)
  local on = {dtype = "i64", device = device}
  return core.sub(core.arange(columns, on), core.view(core.arange(rows, on), rows, 1))
end

local function masked(name, keeps)
  return function(x, diagonal)
    check.tensor(name, 1, x)
    local shape = core.shape(x)
    if #shape < 2 then
      raise(("%s: a matrix or a batch of them is needed, got shape %s"):format(name, shape_text(shape)))
    end
    diagonal = check.whole(name, "the diagonal", diagonal or 0, -2 ^ 53)
    return elementwise.where(keeps(diagonals(shape[#shape - 1], shape[#shape], core.device(x)), diagonal), x, 0)
  end
end

--- x:triu([diagonal]), x:tril([diagonal]): the upper or lower triangles of matrices, the last two dimensions, with 0 in
-- place of the rest; diagonals count from the main one (0 if left out), upwards.
--   fp8.ones(2, 3):triu(1) --> {{0, 1, 1}, {0, 0, 1}}
--   fp8.ones(2, 3):tril() --> {{1, 0, 0}, {1, 1, 0}}
triangle.triu, triangle.tril = masked("triu", core.ge), masked("tril", core.le)

-- The diagonals of the last two dimensions.
local function picked(x, diagonal)
  local shape = core.shape(x)
  local columns, rows = table.remove(shape), table.remove(shape)
  local right, down = math.max(diagonal, 0), math.max(-diagonal, 0)
  local count = math.max(math.min(rows - down, columns - right), 0)
  local positions = core.arange(count, {dtype = "i64", device = core.device(x)})
  positions = core.add(core.mul(positions, columns + 1), down * columns + right)
  shape[#shape + 1] = rows * columns
  return index.index_select(view.reshape(x, shape), #shape, positions)
end

--- x:diag([diagonal]): the matrix with the vector x on a diagonal, counted from the main one (0 if left out) upwards,
-- and 0 elsewhere; of a matrix x the vector of its diagonal.
--   fp8.tensor({1, 2}):diag() --> {{1, 0}, {0, 2}}
--   fp8.tensor({{1, 2}, {3, 4}}):diag(1) --> {2}
function triangle.diag(x, diagonal)
  check.tensor("diag", 1, x)
  diagonal = check.whole("diag", "the diagonal", diagonal or 0, -2 ^ 53)
  local shape, device = core.shape(x), core.device(x)
  if #shape == 1 then
    local rest = core.zeros(math.abs(diagonal), {dtype = core.dtype(x), device = device})
    local padded = join.cat {x, rest}
    local size = core.numel(padded)
    -- Columns, or rows, of the same elements.
    local grid = view.view(padded, diagonal > 0 and {size, 1} or {1, size})
    return elementwise.where(core.eq(diagonals(size, size, device), diagonal), grid, 0)
  end
  if #shape ~= 2 then raise("diag: a vector or a matrix is needed, got shape " .. shape_text(shape)) end
  return picked(x, diagonal)
end

--- x:diagonal([diagonal [, dim [, other]]]): the diagonals of the matrices that two dimensions (the first two if left
-- out) make up, as the last dimension; with memory of its own.
--   fp8.tensor({{1, 2}, {3, 4}}):diagonal() --> {1, 4}
function triangle.diagonal(x, diagonal, dimension, other)
  dimension, other = check.dimension("diagonal", x, dimension or 1), check.dimension("diagonal", x, other or 2)
  if dimension == other then raise(("diagonal: dimension %d is given twice"):format(dimension)) end
  diagonal = check.whole("diagonal", "the diagonal", diagonal or 0, -2 ^ 53)
  return picked(arrange.movedim(x, {dimension, other}, {-2, -1}), diagonal)
end

--- x:trace(): the sum of a matrix's diagonal; of integers as i64.
--   fp8.tensor({{1, 2}, {3, 4}}):trace() --> 5
function triangle.trace(x)
  check.tensor("trace", 1, x, 2)
  return reduce.sum(picked(x, 0))
end

return triangle

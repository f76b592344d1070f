--- Picking from tensors. Positions inside an index tensor count from 0, as class labels do.
local core = require "fp8.core"
local as_row = require "fp8.ops.as_row"
local added_up = require "fp8.ops.index.added_up"
local autograd = require "fp8.autograd"
local broadcast = require "fp8.ops.index.broadcast"
local check = require "fp8.ops.check"
local part_of = require "fp8.ops.index.part"
local view = require "fp8.ops.view"

local needs_grad, record = autograd.needs_grad, autograd.record

local pick = {}

local selecting = {
  name = "index_select",
  backward = function(node, grad, positions)
    return core.index_add(node.input_shape, node.dimension, positions, grad, node.dtype)
  end,
}

--- x:index_select(dim, positions): the rows of a dimension that a one-dimensional integer tensor names.
--   fp8.tensor({5, 6, 7}):index_select(1, fp8.tensor({2, 0}, {dtype = "i64"})) --> {7, 5}
function pick.index_select(x, dimension, positions)
  if core.rank(x) == 0 then return as_row(pick.index_select, x, dimension, positions) end
  local y = core.index_select(x, dimension, positions)
  if needs_grad(x) then
    local node = record(y, selecting, {x}, {positions})
    node.input_shape, node.dimension = core.shape(x), dimension
  end
  return y
end

local gathering = {
  name = "gather",
  backward = function(node, grad, positions)
    return added_up(node.input_shape, node.dimension, positions, grad)
  end,
}

--- x:gather(dim, positions): y[…, i, …] = x[…, positions[…, i, …], …]; `positions` has x's other sizes or smaller ones,
-- and y those of `positions`.
--   fp8.tensor({{5, 6}, {7, 8}}):gather(2, fp8.tensor({{1}, {0}}, {dtype = "i64"})) --> {{6}, {7}}
function pick.gather(x, dimension, positions)
  if core.is_tensor(positions) and core.rank(x) == 0 then
    local row = pick.gather(view.view(x, {1}), dimension, core.view(core.contiguous(positions), {-1}))
    return view.view(row, core.shape(positions))
  end
  if core.is_tensor(x) and core.is_tensor(positions) then x = part_of(x, core.shape(positions), dimension) end
  local y = core.gather(x, dimension, positions)
  if needs_grad(x) then
    local node = record(y, gathering, {x}, {positions})
    node.input_shape, node.dimension = core.shape(x), dimension
  end
  return y
end

--- x:take_along_dim(positions [, dim]): gather, of a tensor and positions that broadcast to each other outside of the
-- dimension; without dim the elements are taken in a row.
--   fp8.tensor({{5, 6}, {7, 8}}):take_along_dim(fp8.tensor({{1}}, {dtype = "i64"}), 2) --> {{6}, {8}}
function pick.take_along_dim(x, positions, dimension)
  check.tensor("take_along_dim", 1, x)
  check.tensor("take_along_dim", 2, positions)
  if dimension == nil then return pick.gather(view.reshape(x, -1), 1, core.view(core.contiguous(positions), -1)) end
  dimension = check.dimension("take_along_dim", x, dimension)
  local shape, other = core.shape(x), core.shape(positions)
  local length, picks = shape[dimension], other[dimension]
  if #shape == #other then shape[dimension], other[dimension] = 1, 1 end
  local whole = broadcast.shape("take_along_dim", shape, other)
  whole[dimension] = length
  x = view.expand(x, whole)
  whole[dimension] = picks
  return pick.gather(x, dimension, core.expand(positions, whole))
end

--- x:take(positions): elements of x taken in a row, in the shape of `positions`.
--   fp8.tensor({{5, 6}, {7, 8}}):take(fp8.tensor({3, 0}, {dtype = "i64"})) --> {8, 5}
function pick.take(x, positions)
  check.tensor("take", 1, x)
  check.tensor("take", 2, positions)
  local rows = pick.index_select(view.reshape(x, -1), 1, core.view(core.contiguous(positions), {-1}))
  return view.view(rows, core.shape(positions))
end

return pick

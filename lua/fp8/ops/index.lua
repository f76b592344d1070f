--- Picking from tensors. Positions inside an index tensor count from 0, as class labels do.
local core = require "fp8.core"
local autograd = require "fp8.autograd"

local needs_grad, record = autograd.needs_grad, autograd.record

local index = {}

local selecting = {
  name = "index_select",
  backward = function(node, grad, positions)
    return core.index_add(node.input_shape, node.dimension, positions, grad, node.dtype)
  end,
}

--- x:index_select(dim, positions): the rows of a dimension that a one-dimensional integer tensor names.
--   fp8.tensor({5, 6, 7}):index_select(1, fp8.tensor({2, 0}, {dtype = "i64"})) --> {7, 5}
function index.index_select(x, dimension, positions)
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
    return core.scatter_add(node.input_shape, node.dimension, positions, grad)
  end,
}

--- x:gather(dim, positions): y[…, i, …] = x[…, positions[…, i, …], …]; `positions` has x's other sizes.
--   fp8.tensor({{5, 6}, {7, 8}}):gather(2, fp8.tensor({{1}, {0}}, {dtype = "i64"})) --> {{6}, {7}}
function index.gather(x, dimension, positions)
  local y = core.gather(x, dimension, positions)
  if needs_grad(x) then
    local node = record(y, gathering, {x}, {positions})
    node.input_shape, node.dimension = core.shape(x), dimension
  end
  return y
end

return index

--- Joining tensors and picking from them. Positions inside an index tensor count from 0, as class labels do.
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
function index.gather(x, dimension, positions)
  local y = core.gather(x, dimension, positions)
  if needs_grad(x) then
    local node = record(y, gathering, {x}, {positions})
    node.input_shape, node.dimension = core.shape(x), dimension
  end
  return y
end

local function any_needs_grad(list)
  for i = 1, #list do
    if needs_grad(list[i]) then return true end
  end
  return false
end

local concatenation = {
  name = "cat", shares = true,
  backward = function(node, grad)
    local grads, start = {}, 1
    for i, length in ipairs(node.lengths) do
      grads[i] = core.narrow(grad, node.dimension, start, length)
      start = start + length
    end
    return grads
  end,
}

--- fp8.cat(list, dim): tensors joined along a dimension (1 if left out). One dtype, and the same sizes elsewhere.
function index.cat(list, dimension)
  dimension = dimension or 1
  local y = core.cat(list, dimension)
  if any_needs_grad(list) then
    local inputs, lengths = {}, {}
    for i = 1, #list do inputs[i], lengths[i] = list[i], core.size(list[i], dimension) end
    local node = record(y, concatenation, inputs)
    node.dimension, node.lengths = dimension, lengths
  end
  return y
end

local stacking = {
  name = "stack", shares = true,
  backward = function(node, grad)
    local grads = {}
    for i = 1, #node.inputs do grads[i] = core.select(grad, node.dimension, i) end
    return grads
  end,
}

--- fp8.stack(list, dim): tensors of one shape and dtype joined along a new dimension (1 if left out).
function index.stack(list, dimension)
  dimension = dimension or 1
  local y = core.stack(list, dimension)
  if any_needs_grad(list) then
    local inputs = {}
    for i = 1, #list do inputs[i] = list[i] end
    record(y, stacking, inputs).dimension = dimension
  end
  return y
end

return index

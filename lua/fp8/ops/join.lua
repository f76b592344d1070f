--- Joining tensors.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local view = require "fp8.ops.view"

local needs_grad, record = autograd.needs_grad, autograd.record

local join = {}

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
--   fp8.cat({fp8.tensor {1, 2}, fp8.tensor {3}}) --> {1, 2, 3}
function join.cat(list, dimension)
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
--   fp8.stack({fp8.tensor {1, 2}, fp8.tensor {3, 4}}, 2) --> {{1, 3}, {2, 4}}
function join.stack(list, dimension)
  dimension = dimension or 1
  local y = core.stack(list, dimension)
  if any_needs_grad(list) then
    local inputs = {}
    for i = 1, #list do inputs[i] = list[i] end
    record(y, stacking, inputs).dimension = dimension
  end
  return y
end

-- Numbers and vectors as PyTorch has it: for rows a vector is one row of a matrix.
local function joined(name, list, as_part, dimension_of)
  if type(list) ~= "table" then
    core.raise(("%s: argument 1: list of tensors expected, got %s"):format(name, type(list)))
  end
  local parts = {}
  for i, x in ipairs(list) do
    if not core.is_tensor(x) then
      core.raise(("%s: element %d of the list: tensor expected, got %s"):format(name, i, type(x)))
    end
    parts[i] = as_part(x)
  end
  if #parts == 0 then core.raise(name .. ": the list is empty") end
  return join.cat(parts, dimension_of(parts[1]))
end

--- fp8.concat(list, dim): fp8.cat. fp8.hstack(list): joined along the second dimension, vectors along their only one.
-- fp8.vstack(list): joined along the first one, where a vector is a row.
--   fp8.concat({fp8.tensor {1}, fp8.tensor {2}}) --> {1, 2}
--   fp8.hstack {fp8.tensor {1, 2}, fp8.tensor {3}} --> {1, 2, 3}
--   fp8.vstack {fp8.tensor {1, 2}, fp8.tensor {3, 4}} --> {{1, 2}, {3, 4}}
join.concat = join.cat

function join.hstack(list)
  return joined("hstack", list, function(x) return core.rank(x) == 0 and view.view(x, {1}) or x end,
    function(x) return core.rank(x) == 1 and 1 or 2 end)
end

function join.vstack(list)
  return joined("vstack", list, function(x) return core.rank(x) < 2 and view.reshape(x, {1, -1}) or x end,
    function() return 1 end)
end

return join

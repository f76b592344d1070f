--- Gradients of what only takes elements over: found by taking over their numbers.
local tensor = require "spec.support.reference.tensor"

local origins = {}

--- What arrives at an element adds up.
-- @param inputs  the tensors that elements come from
-- @param compute gives the result from a list of tensors of their shapes, 0 for elements that come from none
-- @return the gradients of the inputs
function origins.gradient(node, dy, inputs, compute)
  local numbered, count = {}, 0
  for i, x in ipairs(inputs) do
    local list = {}
    for k = 1, tensor.count(x.shape) do list[k] = count + k end
    numbered[i], count = tensor.new("f32", x.shape, list), count + #list
  end
  local arrived = {}
  for i = 1, count do arrived[i] = {} end
  for i, origin in ipairs(tensor.list(compute(numbered))) do
    if origin > 0 then table.insert(arrived[origin], dy[i]) end
  end
  local sums, result, start = node.sums(arrived), {}, 0
  for i, x in ipairs(inputs) do
    local size = tensor.count(x.shape)
    result[i] = {shape = x.shape, unpack(sums, start + 1, start + size)}
    start = start + size
  end
  return result
end

--- The same where all elements come from the first argument.
function origins.gradient_of_first(node, dy)
  return origins.gradient(node, dy, {node.arguments[1]}, function(numbered)
    return node.operation.compute(numbered[1], unpack(node.arguments, 2, table.maxn(node.arguments)))
  end)
end

return origins

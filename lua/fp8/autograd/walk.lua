--- The walk back over the tape, latest operation first.
--
-- Every gradient on the way is a handle that nobody else has, so that its memory is free as soon as it has been used,
-- without the garbage collector; the memory itself may be shared, by views for example.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local nodes_of = require "fp8.autograd.nodes"

local clone, convert, free, is_shared, share = core.clone, core.to, core.free, core.is_shared, core.share
local accumulate, sum, view = core.accumulate, core.sum, core.view
local dtype_of, fits, raise, shape_of = core.dtype, core.fits, core.raise, core.shape

-- `grad` summed over the dimensions along which a tensor of shape `target` was broadcast; `grad` is used up.
local function sum_to(grad, target)
  local source = shape_of(grad)
  local added = #source - #target
  local dimensions = {}
  for i = 1, added do dimensions[i] = i end
  for i = 1, #target do
    if source[added + i] ~= target[i] then dimensions[#dimensions + 1] = added + i end
  end
  if #dimensions == 0 then return grad end
  local total = sum(grad, dimensions, true)
  local fitted = view(total, target)
  free(total)
  free(grad)
  return fitted
end

-- Adds `grad` to what has arrived at `input` so far; `grad` is used up.
local function deliver(grads, input, grad)
  if not fits(grad, input.shape, input.dtype) then
    grad = sum_to(grad, input.shape)
    if dtype_of(grad) ~= input.dtype then
      local converted = convert(grad, {dtype = input.dtype})
      free(grad)
      grad = converted
    end
  end
  local earlier = grads[input]
  if earlier then
    grads[input] = accumulate(earlier, grad)
    if grads[input] ~= earlier then free(earlier) end
    free(grad)
  else
    grads[input] = grad
  end
end

-- Hands what the node with the gradient `grad` has returned for `input` on to that. Returns whether that was `grad`.
local function hand_on(walk, input, gradient, grad, shares)
  if not input then
    if gradient ~= grad then free(gradient) end
    return false
  end
  if shares then walk.lent[input] = true end
  deliver(walk.grads, input, gradient)
  return gradient == grad
end

local function differentiate(node, grad, walk, retained)
  local operation, saved, inputs, grads = node.operation, node.saved, node.inputs, walk.grads
  node.retained = retained
  autograd.check_versions(operation.name, saved, node.versions)
  local shares, moved = operation.shares, operation.exposes
  local earlier = operation.adds and inputs[1] and grads[inputs[1]] or nil
  local first, second, third = operation.backward(node, grad, saved[1], saved[2], saved[3], earlier)
  if earlier then -- it is in `first`
    grads[inputs[1]] = nil
    free(earlier)
  end
  if type(first) == "table" then
    for i = 1, #inputs do
      if first[i] then hand_on(walk, inputs[i], first[i], grad, shares) end
    end
  else
    if first == grad and second == grad and inputs[1] and inputs[2] then first = share(grad) end
    if first and hand_on(walk, inputs[1], first, grad, shares) then moved = true end
    if second and hand_on(walk, inputs[2], second, grad, shares) then moved = true end
    if third then hand_on(walk, inputs[3], third, grad, shares) end
  end
  if not moved and grad ~= walk.given then free(grad) end
end

local function by_descending_sequence(a, b) return a.sequence > b.sequence end

-- All nodes that lead to `root`, latest first, leaves last; nothing beyond those where the walk ends.
local function sorted_nodes(root, ends)
  local nodes = nodes_of(root, ends)
  for _, node in ipairs(nodes) do
    if not (node.inputs or node.leaf or ends and ends(node)) then
      raise("backward: the graph of this tensor was released by an earlier backward; call that one as " ..
        ":backward(nil, {retain_graph = true}) to keep it")
    end
  end
  table.sort(nodes, by_descending_sequence)
  return nodes
end

local function release(node)
  local owned = node.owned
  if owned then
    for i = 1, #owned do free(owned[i]) end
    node.owned = nil
  end
  node.inputs, node.saved, node.versions, node.context = nil, nil, nil, nil
end

-- The gradient of a leaf as its own: in memory that nothing else has.
local function own(grad, lent)
  if not (lent and is_shared(grad)) then return grad end
  local copy = clone(grad)
  free(grad)
  return copy
end

--- Computes the gradients of what a node was made from, and releases the graph on the way.
-- @param root         a node
-- @param first        its gradient, of its shape and dtype, which is used up, unless it is
-- @param given        the caller's own handle, or nil
-- @param retain_graph whether the graph stays
-- @param ends         nil, or a function of a node: whether the walk ends there, too, as at leaves
-- @param awaited      nil, or what is to be told of leaves whose gradients are complete (awaited.lua)
-- @return a list node, gradient, node, gradient, …: of leaves, other ends and nodes with retains_grad, each gradient in
--   memory of its own but for those of other ends
return function(root, first, given, retain_graph, ends, awaited)
  local nodes = sorted_nodes(root, ends)
  if awaited then awaited:expect(nodes) end
  -- lent: the nodes whose gradients may be in memory that others have, too.
  local walk = {grads = {[root] = first}, lent = {}, given = given}
  local grads, lent = walk.grads, walk.lent
  if first == given and (root.leaf or root.operation.shares or ends and ends(root)) then
    grads[root], lent[root] = share(first), true
  end
  local arrived = {}
  for _, node in ipairs(nodes) do
    local grad = grads[node]
    grads[node] = nil
    local is_end = node.leaf or ends and ends(node)
    if grad and (is_end or node.retains_grad) then
      arrived[#arrived + 1] = node
      arrived[#arrived + 1] = node.leaf and own(grad, lent[node]) or is_end and grad or clone(grad)
    end
    if not is_end then
      if grad then differentiate(node, grad, walk, retain_graph) end
      if awaited then awaited:passed(node.inputs, grads) end
      if not retain_graph then release(node) end
    end
  end
  return arrived
end

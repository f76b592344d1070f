--- tensor:backward(): the walk back over the tape, latest operation first. No recursion: graphs may be of any depth.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local check_options = require "fp8.check_options"
local shape_text = require("fp8.shapes").text

local clone, convert, free, is_shared, share = core.clone, core.to, core.free, core.is_shared, core.share
local accumulate, sum, view = core.accumulate, core.sum, core.view
local dtype_of, fits, shape_of = core.dtype, core.fits, core.shape
local is_tensor, like = core.is_tensor, core.like
local edge, raise = autograd.edge, core.raise

local nothing, backward_options = {}, {retain_graph = true}

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

-- All nodes that lead to `root`, latest first, leaves last.
local function collect_nodes(root)
  local nodes, seen, position = {root}, {[root] = true}, 0
  while position < #nodes do
    position = position + 1
    local node = nodes[position]
    if not (node.inputs or node.leaf) then
      raise("backward: the graph of this tensor was released by an earlier backward; call that one as " ..
        ":backward(nil, {retain_graph = true}) to keep it")
    end
    for _, input in ipairs(node.inputs or nothing) do
      if input and not seen[input] then
        seen[input] = true
        nodes[#nodes + 1] = input
      end
    end
  end
  table.sort(nodes, by_descending_sequence)
  return nodes
end

local function first_gradient(output, grad)
  if is_tensor(grad) and like(grad, output) then return grad end
  local shape, dtype = shape_of(output), dtype_of(output)
  if grad == nil then
    if core.numel(output) ~= 1 then
      raise(("backward: a tensor of shape %s needs a gradient of that shape as argument"):format(shape_text(shape)))
    end
    return core.full(shape, 1, {dtype = dtype, device = core.device(output)})
  end
  if not is_tensor(grad) then raise("backward: the gradient must be a tensor, got " .. type(grad)) end
  local need = ("%s on %s"):format(shape_text(shape), core.device(output))
  local have = ("%s on %s"):format(shape_text(shape_of(grad)), core.device(grad))
  if have ~= need then raise(("backward: the gradient must have shape %s, got %s"):format(need, have)) end
  return convert(grad, {dtype = dtype})
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

--- Computes the gradients of a tensor and adds them to `.grad` of the leaves that it was made from.
-- The graph is released on the way: a second backward over it is an error. No gradient is written if there is an error.
--
-- Every gradient on the way is a handle that nobody else has, so that its memory is free as soon as it has been used,
-- without the garbage collector; the memory itself may be shared, by views for example.
-- @param output tensor that requires a gradient
-- @param grad   gradient of `output`, of its shape; may be left out for a tensor of one element (1 then)
-- @param options {retain_graph = true} keeps the graph for another backward
return function(output, grad, options)
  local retain_graph = options ~= nil and check_options("backward", options, backward_options).retain_graph
  local root = edge(output)
  if not root then raise("backward: this tensor does not require a gradient") end
  local nodes = collect_nodes(root)
  local first = first_gradient(output, grad)
  -- given: the caller's own handle, if that is in `grads`; lent: the nodes whose gradients may be in memory that others
  -- have, too.
  local walk = {grads = {[root] = first}, lent = {}, given = grad}
  local grads, lent = walk.grads, walk.lent
  if first == grad and (root.leaf or root.operation.shares) then
    grads[root], lent[root] = share(first), true
  end
  local arrived = {} -- node, gradient, node, gradient, …: what `.grad` of leaves will get
  for _, node in ipairs(nodes) do
    local node_grad = grads[node]
    grads[node] = nil
    if node_grad and (node.leaf or node.retains_grad) then
      arrived[#arrived + 1] = node
      arrived[#arrived + 1] = node.leaf and own(node_grad, lent[node]) or clone(node_grad)
    end
    if not node.leaf then
      if node_grad then differentiate(node, node_grad, walk, retain_graph) end
      if not retain_graph then release(node) end
    end
  end
  autograd.accumulate(arrived)
end

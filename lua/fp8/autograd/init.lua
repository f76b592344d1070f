--- Reverse-mode automatic differentiation: the tape (backward.lua walks back over it).
--
-- An operation on a tensor that requires a gradient records a node and attaches it to its output. A node is a table:
--
--   operation   {name =, backward =, shares =}, one table an operation, see `record`
--   sequence    counts up with every node, so that descending order is an order in which gradients are complete
--   inputs      one entry an input: the node of that input, or false where it needs no gradient; nil once the graph is
--               released
--   saved       the tensors and numbers that `backward` needs; `versions` holds what core.version said of each
--   shape, dtype of the output, which are those of its gradient
--
-- Edges lead from node to node, not to tensors: an intermediate tensor that no derivative needs is free to go. A tensor
-- that requires a gradient and is the result of no operation has a leaf node {leaf = true, sequence = 0, grad = a
-- tensor or false, …}. Everything a graph needs can be reached through these tables, which is how fp8.scope finds what
-- to keep.
local new_table = require "table.new"
local changes = require "fp8.changes"
local computable = require "fp8.computable"
local as_function = require "fp8.autograd.as_function"
local core = require "fp8.core"
local shape_text = require("fp8.shapes").text

local dtype_of, is_tensor, shape_of, version_of = core.dtype, core.is_tensor, core.shape, core.version
local node_of, set_node = core.autograd, core.set_autograd
local requires_grad, set_requires_grad = core.requires_grad, core.set_requires_grad
local free, raise, with = core.free, core.raise, core.with

local autograd = {}

-- What holds while a function runs: whether operations are recorded; and where a scope or the capture of a graph is
-- open, {leaves = a set, to which the leaf nodes are added whose grad is set, outer = the same of what is around it}.
local now = {recording = true, written = false}
local last_sequence = 0
local nothing = {}
local leaf_tensors = setmetatable({}, {__mode = "kv"}) -- by leaf node, as long as they live

local function tracked(value)
  return type(value) == "userdata" and requires_grad(value, true)
end

--- Whether an operation on these values (tensors, numbers or nil) has to be recorded.
function autograd.needs_grad(a, b, c)
  return now.recording and (tracked(a) or tracked(b) or tracked(c))
end

--- The node of a tensor that requires a gradient (a leaf gets its node here), false for every other value.
local function edge(value)
  if not tracked(value) then return false end
  local node = node_of(value)
  if not node then
    node = {leaf = true, sequence = 0, grad = false, shape = shape_of(value), dtype = dtype_of(value)}
    set_node(value, node)
    leaf_tensors[node] = value
  end
  return node
end

autograd.edge = edge

--- The tensor that a leaf node belongs to, nil if it is gone.
function autograd.tensor_of(leaf) return leaf_tensors[leaf] end

--- Whether operations are recorded.
function autograd.is_recording() return now.recording end

--- The sequence of the latest node: those of operations to come have higher ones.
function autograd.last_sequence() return last_sequence end

--- Records that `output` (a new tensor) is the result of `operation`.
--
-- operation.backward(node, grad, saved[1], saved[2], saved[3]) returns one gradient an input, in their order, or one
-- list of them; nil and false stand for none, and node.inputs[i] is false where none is needed. `grad` has shape and
-- dtype of the output. A gradient may have the broadcast shape or another float dtype: both are brought back to the
-- input's. Each is freed once it has been used, and so is `grad`: a returned gradient is a handle that nothing else
-- has, but for `grad` itself. operation.shares says that it may be that, or a view. operation.exposes says that
-- backward may give `grad` to others, who keep it. operation.is_view says that the output is a view of the first input.
-- operation.adds says that backward takes a sixth argument, what has arrived at the first input already (or nil), and
-- adds it to the first gradient in passing: a residual stream is read and written once. node.retained says that
-- backward may come again: what it needs has to stay as it is.
-- @param inputs list of the operation's inputs, false for a missing one; becomes the node's and must not be used again
-- @param saved  list of values that backward needs (false for one it does not), or nil
-- @param context anything else that backward needs, as node.context, or nil; goes with the graph
-- @return the node, for further fields; node.owned may list tensors that nothing else holds: they are freed with the
-- graph, at once
function autograd.record(output, operation, inputs, saved, context)
  for i = 1, #inputs do inputs[i] = edge(inputs[i]) end
  return autograd.attach(output, operation, inputs, saved, context)
end

--- `record` with nodes, or false, for inputs; with true for `assigned` of an output that there was before, and that is
-- changed in place: tensors that share its memory can't be computed with any more where gradients are recorded.
function autograd.attach(output, operation, inputs, saved, context, assigned)
  saved = saved or nothing
  local versions = nothing
  if saved[1] ~= nil then
    versions = {}
    for i = 1, #saved do versions[i] = type(saved[i]) == "userdata" and version_of(saved[i]) end
  end
  last_sequence = last_sequence + 1
  local node = {
    operation = operation, sequence = last_sequence, shape = shape_of(output), dtype = dtype_of(output),
    inputs = inputs, saved = saved, versions = versions, context = context,
  }
  set_requires_grad(output, true)
  set_node(output, node, assigned)
  return node
end

--- Raises an error unless the values saved at `versions` are unchanged.
function autograd.check_versions(name, saved, versions)
  for i = 1, #saved do
    if versions[i] and version_of(saved[i]) ~= versions[i] then
      raise(("backward: a tensor of shape %s that %s needs for its derivative was changed in place after it"):format(
        shape_text(shape_of(saved[i])), name))
    end
  end
end

-- Before its gradient is set.
local function note_written(leaf)
  local written = now.written
  while written do
    written.leaves[leaf] = true
    written = written.outer
  end
end

local function accumulate(arrived, replaces)
  for i = 1, #arrived, 2 do
    local node, grad = arrived[i], arrived[i + 1]
    note_written(node)
    if node.grad and not replaces[node] then changes.add(node.grad, grad) else changes.set(node, "grad", grad) end
  end
end

--- Adds gradients that belong to nobody else to those of nodes: node, gradient, node, gradient, …; all or none.
-- @param replaces nil, or a set of nodes whose gradient goes instead
function autograd.accumulate(arrived, replaces)
  replaces = replaces or nothing
  if changes.are_open() then return accumulate(arrived, replaces) end
  local fields, count = new_table(3 * #arrived / 2, 0), 0
  local sums
  for i = 1, #arrived, 2 do
    local node, grad = arrived[i], arrived[i + 1]
    if now.written then note_written(node) end
    if node.grad and not replaces[node] then
      sums = sums or {}
      sums[#sums + 1], sums[#sums + 2] = node.grad, grad
    else
      fields[3 * count + 1], fields[3 * count + 2], fields[3 * count + 3] = node, "grad", grad
      count = count + 1
    end
  end
  core.commit(fields, count, nil, sums)
  for i = 2, sums and #sums or 0, 2 do free(sums[i]) end
end

--- A set of gradients that are right in one part only, which is all that this process needs (distributed/reducer.lua).
autograd.partial = setmetatable({}, {__mode = "k"})

--- The gradient that backward has added up in a tensor, or nil.
function autograd.grad(tensor)
  local node = node_of(tensor)
  return node and node.grad or nil
end

--- The same for scripts, whom a part would mislead.
function autograd.whole_grad(tensor)
  local grad = autograd.grad(tensor)
  if grad and autograd.partial[grad] then
    raise("grad: each rank has a part of this gradient only, as the optimizer shares its states out (shard = true)")
  end
  return grad
end

--- Sets or, with nil, drops the gradient of a tensor that requires one; `grad` must fit it.
function autograd.set_grad(tensor, grad)
  if grad == nil then
    local node = node_of(tensor)
    if node then node.grad = false end
    return
  end
  local node = edge(tensor)
  if not node then raise("grad: this tensor does not require a gradient") end
  if not core.is_tensor(grad) then raise("grad: a tensor or nil is needed, got " .. type(grad)) end
  local have = ("%s %s on %s"):format(shape_text(shape_of(grad)), dtype_of(grad), core.device(grad))
  local need = ("%s %s on %s"):format(shape_text(node.shape), node.dtype, core.device(tensor))
  if have ~= need then raise(("grad: the gradient of %s must be that too, got %s"):format(need, have)) end
  note_written(node)
  node.grad = grad
end

--- Whether a tensor is not the result of a recorded operation.
function autograd.is_leaf(tensor)
  local node = node_of(tensor)
  return not node or node.leaf == true
end

--- Lets operations on this tensor be recorded (or no longer, with false). Float tensors that are leaves.
-- @return the tensor
function autograd.set_requires_grad(tensor, flag)
  if flag == nil then flag = true end
  if type(flag) ~= "boolean" then raise("requires_grad: a boolean is needed, got " .. type(flag)) end
  if flag and not computable[dtype_of(tensor)] then
    raise("requires_grad: only f32, f16 and bf16 tensors can require a gradient, this one is " .. dtype_of(tensor))
  end
  if not autograd.is_leaf(tensor) then
    raise("requires_grad: this tensor is the result of an operation; use :detach() for one that requires no gradient")
  end
  set_requires_grad(tensor, flag)
  return tensor
end

--- Asks backward to keep the gradient of an intermediate tensor in its `.grad` too.
-- @return the tensor
function autograd.retain_grad(tensor)
  local node = edge(tensor)
  if not node then raise("retain_grad: this tensor does not require a gradient") end
  if not node.leaf then node.retains_grad = true end
  return tensor
end

--- Refuses an in-place change that the tape could not follow.
function autograd.check_in_place(name, tensor, source)
  if not now.recording then return end
  if is_tensor(tensor) and tracked(tensor) then
    raise(name .. ": this tensor requires a gradient and can't be changed in place; use fp8.no_grad or :detach()")
  elseif is_tensor(source) and tracked(source) then
    raise(name .. ": the argument requires a gradient, which would be lost; use fp8.no_grad or :detach()")
  end
end

--- Calls f(...), f being a function or a module, without recording any operation and returns what it returns. Its
-- errors pass through. A coroutine that yields inside is an error: what runs until it resumes would not be recorded
-- either.
function autograd.no_grad(f, ...)
  return with(now, "recording", false, as_function("no_grad", f), ...)
end

--- Calls f(...) with operations recorded, as they are unless something else was asked for; returns what f returns.
function autograd.recorded(f, ...) return with(now, "recording", true, f, ...) end

--- Calls f(...), and makes the leaf nodes that get a gradient meanwhile keys of `leaves`; returns what f returns.
function autograd.collect_written_leaves(leaves, f, ...)
  return with(now, "written", {leaves = leaves, outer = now.written}, f, ...)
end

local function drop_grads(tensors)
  for i = 1, #tensors do
    local node = node_of(tensors[i])
    if node and node.grad then changes.set(node, "grad", false) end
  end
end

--- Drops the gradients of a list of tensors, all or none.
function autograd.drop_grads(tensors) changes.together(drop_grads, tensors) end

return autograd

--- Assignment that autograd follows: x gets other values, and a new node whose inputs are what x was made from before
-- and what it gets. The gradient of what was overwritten is 0.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local broadcast = require "fp8.ops.index.broadcast"
local computable = require "fp8.computable"
local convert = require("fp8.ops.copy").to

local copy_, device_of = core.copy_, core.device
local attach, edge, needs_grad, raise = autograd.attach, autograd.edge, autograd.needs_grad, core.raise

local assignment = {
  name = "assignment", shares = true,
  backward = function(node, grad)
    if not node.assigned then return grad end -- interrupted before the values came
    if node.cut == nil then return nil, grad end
    local inputs, rest, given = node.inputs, nil, nil
    if inputs[2] then
      local part = node.cut(grad)
      given = core.clone(part)
      core.free(part)
    end
    if inputs[1] then
      rest = core.clone(grad)
      local part = node.cut(rest)
      core.fill_(part, 0)
      core.free(part)
    end
    return rest, given
  end,
}

-- The node of x; an error if x is a leaf, or a view of one, whose own gradient would lose its meaning.
local function changeable_node(x)
  local node = edge(x)
  local origin = node
  while origin and origin.inputs and origin.operation.is_view do origin = origin.inputs[1] end
  if origin and origin.leaf then
    raise("assignment: a tensor that requires a gradient and is the result of no operation, or a view of it, can't " ..
      "be assigned to; use fp8.no_grad, or a :clone() of it")
  end
  return node
end

--- Writes a tensor or a number into x, or into the part of it that cut(x) is, and has the tape follow.
-- @param x     tensor of any strides
-- @param cut   nil, or a function that gives a view, by the core's operations alone
-- @param value of a shape that broadcasts to that of the part
return function(x, cut, value)
  if not needs_grad(x, value) then
    local part = cut and cut(x) or x
    if core.is_tensor(value) then copy_(part, value) else core.fill_(part, value) end
    if part ~= x then core.free(part) end
    return
  end
  if not computable[core.dtype(x)] then
    raise("assignment: the value requires a gradient, which would be lost in a tensor of dtype " .. core.dtype(x))
  end
  local on = {dtype = core.dtype(x), device = device_of(x)}
  if not core.is_tensor(value) then value = core.full({}, value, on) end
  if device_of(value) ~= on.device then value = convert(value, {device = on.device}) end
  local before, given = changeable_node(x), edge(value)
  local part = cut and cut(x) or x
  broadcast.check("assignment", "a value", core.shape(value), core.shape(part))
  local node = attach(x, assignment, {before, given}, nil, nil, true)
  node.cut = cut
  core.commit({node, "assigned", true}, 1, {part, value})
  if part ~= x then core.free(part) end
end

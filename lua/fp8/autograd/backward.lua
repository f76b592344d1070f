--- tensor:backward(): gradients of leaves, by the walk back over the tape (walk.lua).
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local awaited = require "fp8.autograd.awaited"
local check_options = require "fp8.check_options"
local shape_text = require("fp8.shapes").text
local walk = require "fp8.autograd.walk"

local convert, dtype_of, shape_of = core.to, core.dtype, core.shape
local is_tensor, like = core.is_tensor, core.like
local edge, raise = autograd.edge, core.raise

local backward_options = {retain_graph = true}

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

--- Computes the gradients of a tensor and adds them to `.grad` of the leaves that it was made from.
-- The graph is released on the way: a second backward over it is an error. No gradient is written if there is an error.
-- @param output tensor that requires a gradient
-- @param grad   gradient of `output`, of its shape; may be left out for a tensor of one element (1 then)
-- @param options {retain_graph = true} keeps the graph for another backward
--   local x = fp8.tensor({2, 3}, {requires_grad = true});
--   (x * x):sum():backward()
--   x.grad --> {4, 6}
return function(output, grad, options)
  local retain_graph = options ~= nil and check_options("backward", options, backward_options).retain_graph
  local root = edge(output)
  if not root then raise("backward: this tensor does not require a gradient") end
  local waiting = awaited.new()
  local arrived = walk(root, first_gradient(output, grad), grad, retain_graph, nil, waiting)
  if not waiting then return autograd.accumulate(arrived) end
  autograd.accumulate(waiting:finish(arrived))
end

--- Cross-entropy of class scores.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local cross_entropy_options = require "fp8.ops.cross_entropy_options"

local read, known = cross_entropy_options.read, cross_entropy_options.known
local reduced, takes, unreduced =
  cross_entropy_options.reduced, cross_entropy_options.takes, cross_entropy_options.unreduced

-- The gradient was made with the loss; node.context is the one for a gradient of 1.
local at_once = {
  name = "cross_entropy",
  backward = function(node, grad)
    local gradient = node.retained and core.clone(node.context) or node.context
    return core.scale_(gradient, grad)
  end,
}

local later = {
  name = "cross_entropy",
  backward = function(node, grad, logits, targets, statistics)
    local options = node.context
    local dloss = unreduced(core.contiguous(grad), targets, options)
    return core.cross_entropy_backward(logits, targets, statistics, dloss, options.rule)
  end,
}

--- Cross-entropy loss -log softmax(logits)[target] of each row, reduced.
--
-- Where one number is wanted and there will be a gradient, that is made with the loss, from one reading of the logits.
-- Not in f16: what is too small for it may be large enough with the scale that the loss gets before the backward pass.
-- @param logits  (n, classes)
-- @param targets (n) integers, class labels from 0
-- @param options {reduction =, ignore_index =, label_smoothing =, class_weight =}: cross_entropy_options.lua
-- @return f32: one number, or (n) losses for no reduction
return function(logits, targets, options)
  options = read("cross_entropy", options, known)
  if not autograd.needs_grad(logits) then
    local losses, statistics = core.cross_entropy(logits, targets, options.rule)
    core.free(statistics)
    return reduced(losses, targets, options)
  end
  if options.reduction == "none" or core.dtype(logits) == "f16" then
    local losses, statistics = core.cross_entropy(logits, targets, options.rule)
    local loss = reduced(losses, targets, options)
    local class_weight = options.rule and options.rule.weight or false
    autograd.record(loss, later, {logits}, {logits, targets, statistics, class_weight}, options).owned = {statistics}
    return loss
  end
  if not (core.rank(logits) == 2 and takes(targets, core.size(logits, 1))) then
    core.cross_entropy(logits, targets) -- which says why not
  end
  local losses, gradient = core.cross_entropy(logits, targets, options.rule, unreduced(1, targets, options))
  local loss = reduced(losses, targets, options)
  autograd.record(loss, at_once, {logits}, nil, gradient)
  return loss
end

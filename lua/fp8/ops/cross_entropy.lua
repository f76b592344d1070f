--- Cross-entropy of class scores.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local check_options = require "fp8.check_options"
local reduce = require "fp8.ops.reduce"

local operation = {
  name = "cross_entropy",
  backward = function(_, grad, logits, targets, statistics)
    return core.cross_entropy_backward(logits, targets, statistics, grad)
  end,
}

local known_options = {reduction = true}
local reductions = {none = function(losses) return losses end, mean = reduce.mean, sum = reduce.sum}

--- Cross-entropy loss -log softmax(logits)[target] of each row.
-- @param logits  (n, classes)
-- @param targets (n) integers, class labels from 0
-- @param options {reduction = "mean" (the default), "sum" or "none"}
-- @return f32: one number, or (n) losses for "none"
return function(logits, targets, options)
  local reduction = check_options("cross_entropy", options, known_options).reduction or "mean"
  local finish = reductions[reduction]
  if not finish then
    core.raise(("cross_entropy: reduction must be mean, sum or none, got %s"):format(tostring(reduction)))
  end
  local losses, statistics = core.cross_entropy(logits, targets)
  if autograd.needs_grad(logits) then autograd.record(losses, operation, {logits}, {logits, targets, statistics}) end
  return finish(losses)
end

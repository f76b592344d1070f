--- Cross-entropy of class scores.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local check = require "fp8.ops.check"
local contiguous = require("fp8.ops.copy").contiguous
local cross_entropy_options = require "fp8.ops.cross_entropy.options"
local probabilities = require "fp8.ops.cross_entropy.probabilities"
local shape_text = require("fp8.shapes").text
local view = require "fp8.ops.view"

local raise, read = core.raise, cross_entropy_options.read
local reduced, takes, unreduced =
  cross_entropy_options.reduced, cross_entropy_options.takes, cross_entropy_options.unreduced

local known = {weight = true}
for option, kind in pairs(cross_entropy_options.known) do known[option] = kind end

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

-- Of logits (n, classes) and labels (n). Where one number is wanted and there will be a gradient, that is made with the
-- loss, from one reading of the logits. Not in f16: what is too small for it may be large enough with the scale that
-- the loss gets before the backward pass.
local function of_rows(logits, targets, options)
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
  local losses, gradient = core.cross_entropy(logits, targets, options.rule, unreduced(1, targets, options))
  local loss = reduced(losses, targets, options)
  autograd.record(loss, at_once, {logits}, nil, gradient)
  return loss
end

-- Of logits (classes) or (n, classes, …) and labels of the other sizes: rows of their own are made of them.
local function of_labels(logits, targets, options)
  local shape, others = core.shape(logits), core.shape(targets)
  local rank, order, count = #shape, {1}, core.numel(targets)
  for i = 3, rank do order[#order + 1] = i end
  order[#order + 1] = 2
  local classes = rank == 1 and shape[1] or shape[2]
  local rows = rank > 2 and contiguous(view.permute(logits, order)) or logits
  local loss = of_rows(view.view(rows, {count, classes}), core.view(core.contiguous(targets), {count}), options)
  return options.reduction == "none" and view.view(loss, others) or loss
end

-- The shapes that labels and probabilities have for such logits.
local function target_shapes(logits)
  local shape = core.shape(logits)
  local labels = {unpack(shape)}
  table.remove(labels, #shape == 1 and 1 or 2)
  return shape_text(labels), shape_text(shape)
end

local function check_shapes(logits, targets)
  check.tensor("cross_entropy", 1, logits)
  check.tensor("cross_entropy", 2, targets)
  if core.rank(logits) == 0 then raise "cross_entropy: the logits must have a dimension of classes, got shape ()" end
  local labels, all = target_shapes(logits)
  local kind, found = core.dtypes[core.dtype(targets)].kind, shape_text(core.shape(targets))
  if found == (kind == "integer" and labels or all) then return kind end
  raise(("cross_entropy: logits of shape %s need targets that are labels, integers of shape %s, or probabilities, " ..
    "f32, f16 or bf16 of shape %s; got %s of shape %s"):format(all, labels, all, core.dtype(targets), found))
end

--- fp8.cross_entropy(logits, targets [, {reduction =, weight =, ignore_index =, label_smoothing =}]): the loss
-- -log softmax(logits)[target] of each label, or -Σ target · log softmax(logits) of the probabilities of all classes.
-- @param logits  (n, classes), (classes) or (n, classes, …), f32, f16 or bf16
-- @param targets labels: integers of any dtype, from 0, of the logits' sizes without the classes; or probabilities:
--   f32, f16 or bf16 of the logits' shape, which get gradients as well
-- @param options cross_entropy/options.lua; weight is called class_weight, too. Probabilities are weighed each by its
--   class, a mean of theirs is over all rows, and none are ignored, as in PyTorch
-- @return f32: one number, or without a reduction losses of the logits' sizes without the classes
--   fp8.cross_entropy(fp8.zeros(1, 4), fp8.tensor({2}, {dtype = "i64"})) --> math.log(4)
--   fp8.cross_entropy(fp8.zeros(2, 4, 3), fp8.zeros(2, 3, {dtype = "u8"}), {reduction = "sum"}) --> 6 * math.log(4)
--   fp8.cross_entropy(fp8.zeros(1, 2), fp8.tensor {{0.25, 0.75}}) --> math.log(2)
return function(logits, targets, options)
  local read_options = read("cross_entropy", options, known)
  if core.is_tensor(logits) and core.rank(logits) == 2 and takes(targets, core.size(logits, 1)) then
    return of_rows(logits, targets, read_options)
  end
  if check_shapes(logits, targets) == "integer" then return of_labels(logits, targets, read_options) end
  return probabilities(logits, targets, read_options)
end

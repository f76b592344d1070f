--- Losses: of predictions x and targets of one shape (nll_loss: of logarithms of probabilities and class labels), with
-- PyTorch's options. Every one takes {reduction =}: "mean" (the default) or "sum" of all elements, or "none" for a
-- tensor of them. Inputs are f32, f16 or bf16, targets of any dtype; computed in f32 and rounded once to the dtype
-- that they promote to. All float inputs and weights get gradients. A mean of no elements is NaN.
local check = require "fp8.ops.check"
local check_options = require "fp8.check_options"
local computable = require "fp8.computable"
local core = require "fp8.core"
local elementwise = require "fp8.ops.elementwise"
local gather = require("fp8.ops.index").gather
local in_float32 = require "fp8.ops.in_float32"
local index_select = require("fp8.ops.index").index_select
local is_whole = require "fp8.is_whole"
local reduce = require "fp8.ops.reduce"
local shape_text = require("fp8.shapes").text
local softplus = require("fp8.ops.elementwise.activation").softplus
local view = require "fp8.ops.view"

local raise = core.raise
local add, div, mul, neg, sub = elementwise.add, elementwise.div, elementwise.mul, elementwise.neg, elementwise.sub
local where = elementwise.where

local losses = {}

local reductions = {none = function(x) return x end, mean = reduce.mean, sum = reduce.sum}

local function read_options(name, options, known)
  known.reduction = true
  options = check_options(name, options, known)
  local reduction = options.reduction
  if reduction == nil then reduction = "mean" end
  if not (reductions[reduction] or reduction == "batchmean" and known.log_target) then
    raise(("%s: reduction must be mean, sum or none%s, got %s"):format(name,
      known.log_target and " (or batchmean)" or "", tostring(reduction)))
  end
  return options, reduction
end

local function check_input(name, x)
  check.tensor(name, 1, x)
  if not computable[core.dtype(x)] then
    raise(("%s: the input must be f32, f16 or bf16, got %s; :to one of these first"):format(name, core.dtype(x)))
  end
end

local function check_device(name, what, x, other)
  if core.device(other) ~= core.device(x) then
    raise(("%s: the input is on %s, the %s on %s"):format(name, core.device(x), what, core.device(other)))
  end
end

-- PyTorch warns of different shapes that broadcast, which are a mistake nearly always: (n, 1) and (n) make (n, n).
local function check_pair(name, x, target)
  check_input(name, x)
  check.tensor(name, 2, target)
  check_device(name, "target", x, target)
  local shape, other = shape_text(core.shape(x)), shape_text(core.shape(target))
  if shape ~= other then
    raise(("%s: the input has shape %s, the target %s: reshape or expand one of them"):format(name, shape, other))
  end
end

local function check_weight(name, option, x, weight)
  if weight == nil then return end
  if not core.is_tensor(weight) then
    raise(("%s: option %s must be a tensor, got %s"):format(name, option, type(weight)))
  end
  if not computable[core.dtype(weight)] then
    raise(("%s: option %s must be f32, f16 or bf16, got %s"):format(name, option, core.dtype(weight)))
  end
  check_device(name, "option " .. option, x, weight)
end

-- One that broadcasts to x.
local function check_factor(name, option, x, weight)
  check_weight(name, option, x, weight)
  if weight == nil then return end
  local shape, own = core.shape(x), core.shape(weight)
  local fits = #own <= #shape
  for i = 1, fits and #own or 0 do
    local size = own[#own - i + 1]
    fits = fits and (size == 1 or size == shape[#shape - i + 1])
  end
  if not fits then
    raise(("%s: option %s of shape %s does not broadcast to the input's %s"):format(name, option, shape_text(own),
      shape_text(shape)))
  end
end

-- A loss of x and target that has no other options.
local function pair_loss(name, compute)
  return function(x, target, options)
    local _, reduction = read_options(name, options, {})
    check_pair(name, x, target)
    return in_float32(compute, x, target, nil, reductions[reduction])
  end
end

local function squared(x, target, _, reduced) return reduced(elementwise.square(sub(x, target))) end

--- fp8.mse_loss(x, target [, {reduction =}]): (x - target)².
--   fp8.mse_loss(fp8.tensor {1, 2}, fp8.tensor {1, 4}) --> 2
--   fp8.mse_loss(fp8.tensor {1, 2}, fp8.tensor {1, 4}, {reduction = "none"}) --> {0, 4}
losses.mse_loss = pair_loss("mse_loss", squared)

local function absolute(x, target, _, reduced) return reduced(elementwise.abs(sub(x, target))) end

--- fp8.l1_loss(x, target [, {reduction =}]): |x - target|; its derivative where both are equal is 0.
--   fp8.l1_loss(fp8.tensor {1, 2}, fp8.tensor {1, 5}, {reduction = "sum"}) --> 3
losses.l1_loss = pair_loss("l1_loss", absolute)

-- c · (|d| - c / 2) with c = min(|d|, limit): d² / 2 up to the limit and a line from there, without a branch that could
-- overflow. Times `factor`.
local function bent(d, limit, factor)
  local distance = elementwise.abs(d)
  local near = elementwise.clamp(distance, nil, limit)
  return mul(factor == 1 and near or mul(near, factor), sub(distance, mul(near, 0.5)))
end

local function smooth(x, target, beta, reduced) return reduced(bent(sub(x, target), beta, 1 / beta)) end

-- An option that is a number, finite and above `least` (or equal to it).
local function bound_option(name, option, value, least_is_allowed)
  if value == nil then return 1 end
  if not (value > 0 or value == 0 and least_is_allowed) or value == math.huge then
    raise(("%s: option %s must be a finite number %s 0, got %s"):format(name, option,
      least_is_allowed and "of at least" or "above", tostring(value)))
  end
  return value
end

--- fp8.smooth_l1_loss(x, target [, {reduction =, beta = 1}]): d² / (2 beta) where d = |x - target| is below beta, else
-- d - beta / 2; with a beta of 0, l1_loss.
--   fp8.smooth_l1_loss(fp8.tensor {0, 0}, fp8.tensor {1, 4}, {beta = 2, reduction = "none"}) --> {0.25, 3}
function losses.smooth_l1_loss(x, target, options)
  local read, reduction = read_options("smooth_l1_loss", options, {beta = "number"})
  local beta = bound_option("smooth_l1_loss", "beta", read.beta, true)
  check_pair("smooth_l1_loss", x, target)
  -- So small that its reciprocal is no number of float32.
  return in_float32(beta < 1e-37 and absolute or smooth, x, target, beta, reductions[reduction])
end

local function huber(x, target, delta, reduced) return reduced(bent(sub(x, target), delta, 1)) end

--- fp8.huber_loss(x, target [, {reduction =, delta = 1}]): d² / 2 where d = |x - target| is below delta, else
-- delta · (d - delta / 2).
--   fp8.huber_loss(fp8.tensor {0, 0}, fp8.tensor {1, 4}, {delta = 2, reduction = "none"}) --> {0.5, 6}
function losses.huber_loss(x, target, options)
  local read, reduction = read_options("huber_loss", options, {delta = "number"})
  local delta = bound_option("huber_loss", "delta", read.delta, false)
  check_pair("huber_loss", x, target)
  return in_float32(huber, x, target, delta, reductions[reduction])
end

-- (1 - y) ln(1 + e^x) + p y ln(1 + e^-x): no term is negative, so that nothing cancels, and none overflows.
local function binary_cross_entropy(x, target, weight, pos_weight, reduced)
  local positive = mul(target, softplus(neg(x)))
  if pos_weight then positive = mul(positive, pos_weight) end
  local loss = add(mul(sub(1, target), softplus(x)), positive)
  return reduced(weight and mul(loss, weight) or loss)
end

--- fp8.binary_cross_entropy_with_logits(x, target [, {reduction =, weight =, pos_weight =}]): the cross-entropy of
-- probabilities σ(x), x of any size, and targets from 0 to 1.
-- @param options weight: factors of the losses; pos_weight: factors of what the target's share of 1 adds. Tensors that
-- broadcast to x
--   fp8.binary_cross_entropy_with_logits(fp8.tensor {0, 1000}, fp8.tensor {1, 1}) --> math.log(2) / 2
function losses.binary_cross_entropy_with_logits(x, target, options)
  local name = "binary_cross_entropy_with_logits"
  local read, reduction = read_options(name, options, {weight = true, pos_weight = true})
  check_pair(name, x, target)
  check_factor(name, "weight", x, read.weight)
  check_factor(name, "pos_weight", x, read.pos_weight)
  return in_float32(binary_cross_entropy, x, target, read.weight, read.pos_weight, reductions[reduction])
end

-- The sum over the size of the first dimension.
local function batch_mean(x) return div(reduce.sum(x), core.rank(x) > 0 and core.size(x, 1) or 1) end

-- 0 · ln 0 is 0, and its derivative finite.
local function divergence(x, target, _, reduced)
  local logarithm = elementwise.log(where(elementwise.eq(target, 0), 1, target))
  return reduced(mul(target, sub(logarithm, x)))
end

local function divergence_of_logarithms(x, target, _, reduced)
  return reduced(mul(elementwise.exp(target), sub(target, x)))
end

--- fp8.kl_div(x, target [, {reduction =, log_target = false}]): target · (ln target - x) of logarithms x of
-- probabilities and target probabilities, or with log_target their logarithms. The reduction "batchmean", the sum over
-- the size of the first dimension, gives the Kullback-Leibler divergence. Where a target is 0 the loss is 0.
--   fp8.kl_div(fp8.tensor {-1, -2}, fp8.tensor {1, 0}, {reduction = "none"}) --> {1, 0}
--   fp8.kl_div(fp8.tensor {-1, -2}, fp8.tensor {0, 0}, {reduction = "sum", log_target = true}) --> 3
function losses.kl_div(x, target, options)
  local read, reduction = read_options("kl_div", options, {log_target = "boolean"})
  check_pair("kl_div", x, target)
  local compute = read.log_target and divergence_of_logarithms or divergence
  return in_float32(compute, x, target, nil, reductions[reduction] or batch_mean)
end

local function check_labels(x, target)
  check_input("nll_loss", x)
  check.tensor("nll_loss", 2, target)
  check_device("nll_loss", "target", x, target)
  if core.dtypes[core.dtype(target)].kind ~= "integer" then
    raise("nll_loss: the target must be class labels, integers from 0; got " .. core.dtype(target))
  end
  local expected = core.shape(x)
  if #expected == 0 then raise "nll_loss: the input must have a dimension of classes, got shape ()" end
  table.remove(expected, #expected == 1 and 1 or 2)
  local found = shape_text(core.shape(target))
  if shape_text(expected) ~= found then
    raise(("nll_loss: the target of an input of shape %s must have shape %s, got %s"):format(
      shape_text(core.shape(x)), shape_text(expected), found))
  end
end

local function read_ignored(value)
  if value ~= nil and not is_whole(math.abs(value), 0) then
    raise("nll_loss: option ignore_index must be an integer, got " .. tostring(value))
  end
  return value
end

-- -weight[target] · x[…, target, …] and the weights of the elements (nil where all are 1).
local function picked(x, target, weight, ignored)
  local classes = core.rank(x) == 1 and 1 or 2
  local mask = ignored and core.eq(target, ignored)
  local labels = mask and core.masked_fill(target, mask, 0) or target
  local loss = neg(view.squeeze(gather(x, classes, view.unsqueeze(labels, classes)), classes))
  local weights
  if weight then
    weights = view.view(index_select(weight, 1, core.view(core.contiguous(labels), -1)), core.shape(target))
    loss = mul(loss, weights)
    if mask then weights = where(mask, 0, weights) end
  elseif mask then
    weights = core.to(core.eq(mask, 0), {dtype = "f32"})
  end
  return mask and where(mask, 0, loss) or loss, weights
end

--- fp8.nll_loss(x, target [, {reduction =, weight =, ignore_index =}]): -x[target] of logarithms x of probabilities,
-- such as log_softmax gives, with the classes in dimension 2 (or the only one): (n, classes, …).
-- @param target  integers from 0, of x's other sizes
-- @param options weight: (classes) factors of the losses, by whose sum a mean divides; ignore_index: a label that
-- counts for nothing, and need be none of the classes. No label is ignored unless this says so
--   fp8.nll_loss(fp8.tensor({{-1, -2}, {-3, -4}}), fp8.tensor({1, 0}, {dtype = "i64"})) --> 2.5
function losses.nll_loss(x, target, options)
  local read, reduction = read_options("nll_loss", options, {weight = true, ignore_index = "number"})
  local ignored = read_ignored(read.ignore_index)
  check_labels(x, target)
  check_weight("nll_loss", "weight", x, read.weight)
  local classes = core.size(x, core.rank(x) == 1 and 1 or 2)
  if read.weight and not (core.rank(read.weight) == 1 and core.size(read.weight, 1) == classes) then
    raise(("nll_loss: option weight must have shape (%d), one a class, got %s"):format(classes,
      shape_text(core.shape(read.weight))))
  end
  return in_float32(function(logarithms, weight)
    local loss, weights = picked(logarithms, target, weight, ignored)
    if reduction ~= "mean" or not weights then return reductions[reduction](loss) end
    return div(reduce.sum(loss), reduce.sum(weights))
  end, x, read.weight)
end

return losses

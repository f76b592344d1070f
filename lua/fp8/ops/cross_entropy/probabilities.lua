--- Cross-entropy where targets are probabilities of all classes: composed of other operations, in float32.
local check = require "fp8.ops.check"
local computable = require "fp8.computable"
local convert = require("fp8.ops.copy").to
local core = require "fp8.core"
local elementwise = require "fp8.ops.elementwise"
local log_softmax = require("fp8.ops.softmax").log_softmax
local reduce = require "fp8.ops.reduce"
local shape_text = require("fp8.shapes").text

local raise = core.raise
local add, div, mul, neg = elementwise.add, elementwise.div, elementwise.mul, elementwise.neg

local name = "cross_entropy"

-- The weights of classes as a tensor that broadcasts to the logits.
local function spread(weight, rank, dimension, classes)
  if core.size(weight, 1) ~= classes then
    raise(("%s: weights of shape (%d), one a class, are needed, got %s"):format(name, classes,
      shape_text(core.shape(weight))))
  end
  local sizes = {}
  for i = 1, rank do sizes[i] = i == dimension and classes or 1 end
  return core.view(weight, sizes)
end

local function check_all(logits, targets, rule)
  for position, x in ipairs {logits, targets} do
    if not computable[core.dtype(x)] then
      raise(("%s: argument %d must be f32, f16 or bf16, got %s"):format(name, position, core.dtype(x)))
    end
  end
  for what, x in pairs {targets = targets, weights = rule.weight} do
    if core.device(x) ~= core.device(logits) then
      raise(("%s: the logits are on %s, the %s on %s"):format(name, core.device(logits), what, core.device(x)))
    end
  end
  if rule.ignored ~= nil then raise(name .. ": option ignore_index is for labels: these targets are probabilities") end
  local smoothing = rule.smoothing or 0
  if not (smoothing >= 0 and smoothing <= 1) then
    raise(("%s: label smoothing must be from 0 to 1, got %g"):format(name, smoothing))
  end
end

--- @param logits  (classes) or (n, classes, …)
-- @param targets of the same shape
-- @param read    as options.read returned it
return function(logits, targets, read)
  local rule = read.rule or {}
  check_all(logits, targets, rule)
  local rank = core.rank(logits)
  local dimension = rank == 1 and 1 or 2
  local classes = core.size(logits, check.dimension(name, logits, dimension))
  if classes == 0 then raise(name .. ": the logits have no classes") end
  local logarithms = log_softmax(convert(logits, {dtype = "f32"}), dimension)
  local shares = convert(targets, {dtype = "f32"})
  if rule.smoothing and rule.smoothing > 0 then
    shares = add(mul(shares, 1 - rule.smoothing), rule.smoothing / classes)
  end
  if rule.weight then logarithms = mul(logarithms, spread(rule.weight, rank, dimension, classes)) end
  local losses = neg(reduce.sum(mul(logarithms, shares), dimension))
  if read.reduction == "none" then return losses end
  local total = reduce.sum(losses)
  return read.reduction == "sum" and total or div(total, core.numel(losses))
end

--- The options of cross-entropy, which fp8.cross_entropy and fp8.linear_cross_entropy share:
--
--   reduction        "mean" (the default) over the rows that count, each as its label's weight says; "sum"; or "none"
--   ignore_index     a label, which need not be one of the classes: rows that have it count for nothing. No label is
--                    ignored unless this says so
--   label_smoothing  from 0 to 1: the share of the target that goes to all classes alike
--   class_weight     (classes) weights of the labels, f32, f16 or bf16; in fp8.cross_entropy also called `weight`,
--                    as in PyTorch
--
-- They mean what they mean in PyTorch's cross_entropy. A mean over no row is NaN.
local ffi = require "ffi"
local core = require "fp8.core"
local check_options = require "fp8.check_options"
local computable = require "fp8.computable"
local is_whole = require "fp8.is_whole"
local shapes = require "fp8.shapes"

local raise = core.raise

local cross_entropy_options = {
  known = {reduction = true, ignore_index = true, label_smoothing = "number", class_weight = true},
}

local reductions = {none = true, mean = core.mean, sum = core.sum}

local function is_integer(value)
  if type(value) == "cdata" then return ffi.istype("int64_t", value) or ffi.istype("uint64_t", value) end
  return is_whole(type(value) == "number" and math.abs(value), 0)
end

-- @param label of the function and the option
local function check_class_weight(label, weight)
  if not core.is_tensor(weight) then raise(("%s must be a tensor, got %s"):format(label, type(weight))) end
  if not computable[core.dtype(weight)] then
    raise(("%s must be f32, f16 or bf16, got %s"):format(label, core.dtype(weight)))
  end
  if core.rank(weight) ~= 1 then
    raise(("%s must have shape (classes), got %s"):format(label, shapes.text(core.shape(weight))))
  end
  if core.requires_grad(weight) then
    raise(label .. " can't require a gradient, which nothing computes; use :detach()")
  end
end

--- {reduction =, rule = as core.cross_entropy takes it, or nil} of options, checked.
-- @param name  of the function to name in errors
-- @param known the options that there are, among them those above
function cross_entropy_options.read(name, options, known)
  options = check_options(name, options, known)
  local reduction, weight, option = options.reduction or "mean", options.class_weight, "class_weight"
  if options.weight ~= nil then
    if weight ~= nil then raise(name .. ": options weight and class_weight are two names of one") end
    weight, option = options.weight, "weight"
  end
  if not reductions[reduction] then
    raise(("%s: reduction must be mean, sum or none, got %s"):format(name, tostring(reduction)))
  end
  if options.ignore_index ~= nil and not is_integer(options.ignore_index) then
    raise(("%s: option ignore_index must be an integer, got %s"):format(name, tostring(options.ignore_index)))
  end
  if weight ~= nil then
    check_class_weight(("%s: option %s"):format(name, option), weight)
    weight = core.contiguous(core.to(weight, {dtype = "f32"}))
  end
  local rule
  if options.ignore_index ~= nil or options.label_smoothing or weight then
    rule = {weight = weight, smoothing = options.label_smoothing, ignored = options.ignore_index}
  end
  return {reduction = reduction, rule = rule}
end

-- What a mean divides by: Σ of the weights of the labels that count, f32 of no dimensions; nil for the number of rows.
-- A label out of range is the loss's to report.
local function total_of(targets, rule)
  if not (rule and (rule.weight or rule.ignored)) then return nil end
  local counts = rule.ignored and core.to(core.ne(targets, rule.ignored), {dtype = "f32"})
  if not rule.weight then return core.sum(counts) end
  local labels = core.clamp(targets, 0, core.size(rule.weight, 1) - 1)
  local weights = core.index_select(rule.weight, 1, labels)
  return core.sum(counts and core.mul(weights, counts) or weights)
end

--- The losses of rows, reduced. Not recorded.
-- @param losses  (n)
-- @param targets (n)
-- @param read    as `read` returned it
function cross_entropy_options.reduced(losses, targets, read)
  if read.reduction == "none" then return losses end
  local total = read.reduction == "mean" and total_of(targets, read.rule)
  return total and core.div(core.sum(losses), total) or reductions[read.reduction](losses)
end

--- The gradient of each loss, f32 (n), where that of the reduced loss is `grad`.
-- @param grad f32, contiguous: n elements for no reduction, else one of no dimensions; or 1
function cross_entropy_options.unreduced(grad, targets, read)
  local count = core.size(targets, 1)
  if read.reduction == "none" then return core.view(grad, {count}) end
  if read.reduction == "mean" then
    local total = total_of(targets, read.rule)
    if total then
      grad = core.div(grad, total)
    else
      grad = grad == 1 and 1 / count or core.mul(grad, 1 / count)
    end
  end
  if type(grad) == "number" then grad = core.full({1}, grad, {dtype = "f32", device = core.device(targets)}) end
  return core.expand(grad, {count})
end

--- Whether core.cross_entropy takes these targets for n rows.
function cross_entropy_options.takes(targets, n)
  return core.is_tensor(targets) and core.rank(targets) == 1 and core.size(targets, 1) == n and
    core.dtypes[core.dtype(targets)].kind == "integer"
end

return cross_entropy_options

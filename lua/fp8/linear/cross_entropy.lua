--- A linear layer and the cross-entropy of its outputs, in chunks of rows: of the matrix of logits, which for a
-- language model is larger than anything else, there is one chunk at a time. Its gradient is written over it at once,
-- and goes into dx and into a float32 sum of dW.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local as_dtype = require "fp8.linear.as_dtype"
local check = require "fp8.linear.check"
local check_options = require "fp8.check_options"
local cross_entropy_options = require "fp8.ops.cross_entropy.options"
local fuses = require "fp8.linear.fuses"
local gradients = require "fp8.linear.gradients"
local is_whole = require "fp8.is_whole"
local linear_state = require "fp8.linear.state"
local operands = require "fp8.linear.operands"
local planning = require "fp8.linear.plan"
local products = require "fp8.linear.products"
local published = require "fp8.linear.published"
local shapes = require "fp8.shapes"
local times_transposed = require("fp8.ops.matmul.transposed").times_transposed

local copy_, free, narrow, needs_grad = core.copy_, core.free, core.narrow, autograd.needs_grad
local device_of, dtype_of, raise, view = core.device, core.dtype, core.raise, core.view

local linear_cross_entropy = {}

-- Rows of a chunk, by default. Reading and writing the sum of dW takes as long as the products of this many rows do,
-- times 300 over the rows of a chunk on an H100 and less than 100 over them on a CPU, whatever the sizes of W. With a
-- plan there are codes of the gradient beside it, in both layouts, which are as large.
local default_rows, default_rows_on_cpu = 16384, 1024

local layer_options, own_options = {rows = true}, {rows = true, bias = true, recipe = true}
for option, kind in pairs(cross_entropy_options.known) do
  layer_options[option], own_options[option] = kind, kind
end

-- The rows from `first` on, `count` of them, of a tensor's part of a chunk.
local function part_of(x, first, count) return x and narrow(x, 1, first, count) end

-- Adds the gradients of a chunk to those of `made`: input, (n, in); weight, a sum (out, in) or nothing yet; and bias, a
-- sum (1, out).
-- @param source nil, or what quantizes the gradient, and `dlogits` are the logits yet
local function add_gradients(job, made, dlogits, x, factor, context, first, source)
  local wants, count = job.wants, core.size(x, 1)
  local weight_dtype = wants.weight and (job.chunks > 1 and "f32" or wants.weight) or nil
  if wants.bias then
    local ones = core.ones({1, count}, {dtype = job.dtype, device = job.device})
    core.matmul_add_(made.bias, ones, dlogits)
    free(ones)
  end
  local dx, dweight = gradients(dlogits, x, factor, context, wants.input, weight_dtype, nil, made.weight, source)
  made.weight = dweight
  if not dx then return end
  local place = narrow(made.input, 1, first, count)
  copy_(place, dx)
  free(place)
  free(dx)
end

-- Calls f(x), x being what a plan that keeps it in codes makes of it.
local function with_kept_values(f, x, plan, dtype)
  local codes, scale = products.keep(x, plan)
  local values = products.kept_values(codes, scale, plan, dtype)
  f(values)
  for _, tensor in ipairs {codes, scale, values} do free(tensor) end
end

-- A source as products.grad_forms takes it: the gradient of the logits, with which the losses come.
local function quantize_gradient(source, logits, ...)
  local function keep_losses(losses, ...)
    source.losses = losses
    return ...
  end
  return keep_losses(operands.quantize_cross_entropy(logits, source.targets, source.rule, source.upstream, ...))
end

-- The source of a chunk's gradient, nil where it has to be there itself.
local function source_of(job, targets, upstream)
  local plan, wants = job.plan, job.wants
  if not (upstream and plan and fuses(plan)) or job.observer or wants.bias then return nil end
  if not products.takes_source(plan, wants.input, wants.weight) then return nil end
  return {targets = targets, rule = job.options.rule, upstream = upstream, quantize = quantize_gradient}
end

local function compute_chunk(job, made, dloss, factor, context, first, count)
  local x, targets, upstream = part_of(job.x, first, count), part_of(job.targets, first, count),
    part_of(dloss, first, count)
  local plan = job.plan
  local logits
  if plan then
    logits, context.kept = products.forward(x, factor, job.addend, plan, upstream and job.wants.weight, job.histories,
      upstream and job.wants.input)
  else
    logits = times_transposed(x, factor, job.addend)
  end
  local source, losses, second = source_of(job, targets, upstream), nil, nil
  if not source then
    losses, second = core.cross_entropy(logits, targets, job.options.rule, upstream, upstream ~= nil)
  end
  local function add(rows) add_gradients(job, made, logits, rows, factor, context, first, source) end
  if upstream and plan and plan.keep and job.wants.weight then
    with_kept_values(add, x, plan, job.dtype)
  elseif upstream then
    add(x)
  end
  losses = losses or source.losses
  local place = narrow(made.losses, 1, first, count)
  copy_(place, losses)
  if second and second ~= logits then free(second) end
  for _, tensor in ipairs(products.with_kept({}, context.kept)) do free(tensor) end
  for _, tensor in ipairs {place, losses, logits, x, targets, upstream} do free(tensor) end
end

-- {losses = (n)} and, of their gradients `dloss`, those that job.wants has the dtypes of.
local function compute(job, dloss)
  local count, device, wants = core.size(job.x, 1), job.device, job.wants
  local plan, weight, made = job.plan, job.weight, {losses = core.empty({count}, {dtype = "f32", device = device})}
  local context = {plan = plan, observer = job.observer, histories = job.histories}
  local factor
  if plan then
    factor, context.weight =
      operands.weight_forms(weight, plan, dloss and wants.input, job.dtype, job.state, job.histories)
    context.weight_mask = factor.mask
  else
    factor = as_dtype(weight, job.dtype)
  end
  job.addend = job.bias and as_dtype(job.bias, job.dtype)
  if dloss and wants.input then made.input = core.empty(core.shape(job.x), {dtype = job.dtype, device = device}) end
  if dloss and job.chunks > 1 and plan and plan.weight_grad and plan.weight_grad.native and
    (wants.weight == "f16" or wants.weight == "bf16") then
    context.sum_is_narrow = true
    made.weight = core.zeros(core.shape(weight), {dtype = "f32", device = device})
  end
  if dloss and wants.bias then made.bias = core.zeros({1, core.size(weight, 1)}, {dtype = "f32", device = device}) end
  for first = 1, count, job.rows do
    compute_chunk(job, made, dloss, factor, context, first, math.min(job.rows, count - first + 1))
  end
  if not plan and factor ~= weight then free(factor) end
  return made
end

-- The gradients as their inputs have them.
local function finished(job, made)
  local wants, weight, bias = job.wants, made.weight, made.bias
  if wants.weight and not weight then
    weight = core.zeros(core.shape(job.weight), {dtype = wants.weight, device = job.device})
  elseif weight and dtype_of(weight) ~= wants.weight then
    weight = core.to(weight, {dtype = wants.weight})
    free(made.weight)
  end
  if bias then bias = as_dtype(view(bias, core.shape(job.bias)), wants.bias) end
  local input = made.input and view(made.input, job.input_shape)
  if input then free(made.input) end
  return {input, weight, bias}
end

-- The gradients were made with the loss; node.context has those for a gradient of 1, by position.
local at_once = {
  name = "linear_cross_entropy",
  backward = function(node, grad)
    local grads = {}
    for i = 1, 3 do
      local gradient = node.inputs[i] and node.context[i]
      if gradient then grads[i] = core.scale_(node.retained and core.clone(gradient) or gradient, grad) end
    end
    return grads[1], grads[2], grads[3]
  end,
}

-- The logits are computed again.
local later = {
  name = "linear_cross_entropy",
  backward = function(node, grad)
    local job = node.context
    local made = compute(job, cross_entropy_options.unreduced(core.contiguous(grad), job.targets, job.options))
    return unpack(finished(job, made), 1, 3)
  end,
}

local function check_tensor(name, what, value)
  if not core.is_tensor(value) then raise(("%s: %s must be a tensor, got %s"):format(name, what, type(value))) end
end

-- The targets (n), where x has the shape `shape`.
local function as_list(name, targets, shape)
  check_tensor(name, "targets", targets)
  local rows = 1
  for i = 1, #shape - 1 do rows = rows * shape[i] end
  local own, fits = core.shape(targets), core.rank(targets) == #shape - 1
  for i = 1, #shape - 1 do fits = fits and own[i] == shape[i] end
  if not fits and not (#own == 1 and own[1] == rows) then
    raise(("%s: an input (…, features) and targets of its other sizes, or a list of as many, are needed, got %s and %s")
      :format(name, shapes.text(shape), shapes.text(own)))
  end
  local list = view(core.contiguous(targets), {rows})
  if not cross_entropy_options.takes(list, rows) then
    raise(("%s: targets must be integers, got %s"):format(name, dtype_of(targets)))
  end
  return list
end

local function record(loss, job, x, made)
  local inputs = {x, job.weight, job.bias or false}
  if made then return autograd.record(loss, at_once, inputs, nil, finished(job, made)) end
  local rule = job.options.rule
  local saved = {x, job.weight, job.bias or false, job.targets, rule and rule.weight or false}
  autograd.record(loss, later, inputs, saved, job)
end

--- The loss of a linear layer's outputs: `linear_cross_entropy` below, for a layer or for a plan.
-- @param name    of the function to name in errors
-- @param bias    (out), or nil
-- @param options those of ops/cross_entropy/options.lua, and rows
-- @param plan    from plan.make, or nil for products of unquantized values
-- @param state   of the layer that calls (state.lua), or nil
function linear_cross_entropy.apply(name, x, weight, bias, targets, options, plan, state)
  local read = cross_entropy_options.read(name, options, state and layer_options or own_options)
  local shape, classes = check(name, x, weight, bias)
  local rows = options and options.rows
  if rows ~= nil and not is_whole(rows, 1) then
    raise(("%s: option rows must be a whole number of at least 1, got %s"):format(name, tostring(rows)))
  end
  local device = device_of(x)
  rows = rows or device == "cpu" and default_rows_on_cpu or plan and default_rows / 2 or default_rows
  if bias and not (core.rank(bias) == 1 and core.size(bias, 1) == classes) then
    raise(("%s: a bias of shape (%d) is needed, got %s"):format(name, classes, shapes.text(core.shape(bias))))
  end
  local list = as_list(name, targets, shape)
  local wants = {
    input = needs_grad(x) and dtype_of(x) or nil, weight = needs_grad(weight) and dtype_of(weight) or nil,
    bias = needs_grad(bias) and dtype_of(bias) or nil,
  }
  local recorded = wants.input or wants.weight or wants.bias
  local input = core.contiguous(shapes.as_rows(x))
  plan = plan and planning.on(plan, input, math.min(rows, core.size(input, 1)))
  local job = {
    x = input, weight = weight, bias = bias, targets = list, plan = plan, state = state, wants = wants, rows = rows,
    chunks = math.ceil(core.size(input, 1) / rows), dtype = dtype_of(x), device = device, input_shape = shape,
    options = read,
    histories = state and linear_state.histories_of(state, plan, recorded and true, weight, wants.weight and true),
    observer = state and state.observer,
  }
  if job.histories and not job.histories.contents then job.histories.contents = {} end -- its chunks are one call
  if job.observer then
    job.observer("weight", weight, plan and plan.forward.right, plan and wants.input and plan.input_grad.right)
    job.observer("input", x, plan and plan.forward.left,
      plan and wants.weight and plan.weight_grad and plan.weight_grad.right)
  end
  local now = recorded and read.reduction ~= "none" and job.dtype ~= "f16"
  local made = compute(job, now and cross_entropy_options.unreduced(1, list, read) or nil)
  local loss = cross_entropy_options.reduced(made.losses, list, read)
  if loss ~= made.losses then
    free(made.losses)
  elseif core.rank(targets) ~= 1 then
    loss = view(loss, core.shape(targets))
  end
  if recorded then record(loss, job, x, now and made) end
  return loss
end

-- The plan of options.recipe, for rows of `features` and so many classes.
local function plan_of(name, recipe, features, classes)
  if recipe == nil then return nil end
  local plan = planning.make(name, published.resolve(name, recipe), features, classes)
  if plan.histories[1] then
    raise(name .. ": delayed scaling is for layers, which keep the history: call layer:cross_entropy")
  end
  return plan
end

--- fp8.cross_entropy(x·Wᵀ + b, targets, options) without all the logits at once: for each chunk of rows they are
-- computed, become their gradient, and that goes into the gradients of x, W and b, which the backward pass hands out.
-- But for the order of sums they are those of a layer and fp8.cross_entropy. In f16, and without a reduction, gradients
-- depend on what the backward pass brings: it computes the logits again then. A recipe's blocks, of a whole tensor for
-- example, are those of a chunk.
-- @param x       (…, features), 1 to 4 dimensions, f32, f16 or bf16
-- @param weight  (classes, features) of x's dtype, or f32
-- @param targets integers from 0, of x's other sizes or (n)
-- @param options those of fp8.cross_entropy: reduction, ignore_index, label_smoothing, class_weight; and
--   bias    (classes), f32, f16 or bf16
--   recipe  of the products, a table as in fp8.recipes or a name there
--   rows    of a chunk (16384, with a recipe 8192, on the CPU 1024)
-- @return f32: one number, or losses of the targets' shape for no reduction
--   local x, weight, targets = fp8.zeros(2, 3), fp8.ones(4, 3), fp8.tensor({0, 3}, {dtype = "i64"})
--   fp8.linear_cross_entropy(x, weight, targets) --> math.log(4)
function linear_cross_entropy.linear_cross_entropy(x, weight, targets, options)
  local name = "linear_cross_entropy"
  check_tensor(name, "the weight", weight)
  options = check_options(name, options, own_options)
  if options.bias ~= nil then check_tensor(name, "option bias", options.bias) end
  local _, classes = check(name, x, weight, options.bias)
  local plan = plan_of(name, options.recipe, core.size(weight, 2), classes)
  return linear_cross_entropy.apply(name, x, weight, options.bias, targets, options, plan)
end

return linear_cross_entropy

--- The differentiable linear function y = x·Wᵀ + b, in the precision that a plan says (plan.lua), or that of x.
--
--   y  = x·Wᵀ + b   of quantized x and W
--   dx = dy·W       of quantized dy and the W of the forward product
--   dW = dyᵀ·x      of unquantized dy and x, or of quantized ones
--   db = Σ dy       over rows
--
-- A product takes its operands as codes with scales, which FP8 tensor cores can multiply, or as values of x's dtype.
-- The cores accumulate y fast and the gradients, which lose more by it, accurately (backend.h, scaled_matmul), as
-- torchao and Transformer Engine do.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local shapes = require "fp8.shapes"

local needs_grad, record = autograd.needs_grad, autograd.record
local contiguous, convert, free, keep, share = core.contiguous, core.to, core.free, core.keep, core.share
local narrow, transpose, view = core.narrow, core.transpose, core.view
local quantize, dequantize, fake_quantize = core.quantize, core.dequantize, core.fake_quantize
local matmul, scaled_matmul = core.matmul, core.scaled_matmul
local contents_of, dtype_of, numel, shape_of, size = core.contents, core.dtype, core.numel, core.shape, core.size
local as_rows, shape_text = shapes.as_rows, shapes.text
local raise = core.raise

local computable = {f32 = true, f16 = true, bf16 = true}

-- As many values of a quantized x are kept for the backward pass: making them again would cost more than it saves.
local few_values = 2^20

local forms = {"codes", "scale", "transposed", "values"} -- of a quantized weight

-- Hardware products take a scale a row of both operands or of neither. So where the weight's one scale meets scales of
-- rows, it is made as often as it has columns in those products.
local function repeats_scale(plan)
  return not plan.weight.blocksize and
    (plan.input.scale == "row" or plan.native.input_grad and plan.grad_output.scale == "row")
end

-- The weight's scale for a product of `columns` columns whose other operand is scaled by `other`, "row" or "tensor".
local function scale_beside(other, weight, plan, columns)
  if not repeats_scale(plan) then return weight.scale end
  return narrow(weight.scale, 1, 1, other == "row" and columns or 1)
end

local function as_dtype(x, dtype)
  return dtype_of(x) == dtype and x or convert(x, {dtype = dtype})
end

-- What is multiplied in place of W: {codes =, scale =, transposed =} for products of codes, else {values =} of `dtype`.
-- The products for dx need the codes transposed. `cache`, a table or nil, holds the last of these: it serves again as
-- long as the weight has not changed, as core.contents tells. A stochastic rounding is drawn anew each time.
local function quantized_weight(weight, plan, dtype, for_input_grad, cache)
  local native = plan.native.forward
  local transposing = native and for_input_grad and plan.native.input_grad or false
  if cache and cache.weight == weight and cache.contents == contents_of(weight) and cache.dtype == dtype and
    (cache.transposed or not transposing) then
    return cache
  end
  local rule = plan.weight
  local form = {weight = weight, contents = contents_of(weight), dtype = dtype}
  if native then
    form.codes, form.scale, form.transposed =
      quantize(weight, rule.format, rule.blocksize, plan.rounding, nil, transposing, nil,
        repeats_scale(plan) and math.max(size(weight, 1), size(weight, 2)) or nil)
  else
    form.values = fake_quantize(weight, rule.format, rule.blocksize, plan.rounding, nil, dtype)
  end
  if cache and not plan.rounding then
    for _, name in ipairs(forms) do
      if cache[name] then free(cache[name]) end
      cache[name] = form[name]
      if form[name] then keep(form[name]) end
    end
    cache.weight, cache.contents, cache.dtype = weight, form.contents, dtype
  end
  return form
end

-- What the backward pass keeps of it, for itself: the cache frees its own when the weight changes.
local function shared_forms(weight)
  local shared = {}
  for _, name in ipairs(forms) do shared[name] = weight[name] and share(weight[name]) end
  return shared
end

-- y, and what the product for dW needs of x: its scales beside x, its transposed codes and scales, or, without scales,
-- the values that it was multiplied as.
local function forward(x, weight, bias, plan, dtype, for_weight_grad)
  if not plan then return matmul(x, transpose(weight, 1, 2), bias) end
  local rule = plan.input
  local again = for_weight_grad and plan.quantized_weight_grad
  if plan.native.forward then
    local codes, scale, transposed =
      quantize(x, rule.format, rule.blocksize, plan.rounding, nil, again and plan.native.weight_grad)
    local weight_scale = scale_beside(rule.scale, weight, plan, size(weight.codes, 1))
    local y = scaled_matmul(codes, scale, weight.codes, weight_scale, bias, dtype, true)
    free(codes)
    return y, again and scale, transposed
  end
  local values, _, scale = fake_quantize(x, rule.format, rule.blocksize, plan.rounding, nil, dtype, nil, again)
  local y = matmul(values, transpose(weight.values, 1, 2), bias)
  if again and numel(values) <= few_values then return y, nil, values end
  free(values)
  return y, scale
end

-- dy as the products need it, and db, which comes out of the same pass. Fields that no product needs are missing.
local function quantized_grad(dy, plan, for_input, for_weight, bias_dtype)
  local rule, native = plan.grad_output, plan.native
  local input_codes = for_input and native.input_grad
  local weight_codes = for_weight and native.weight_grad
  local form = {}
  if input_codes or weight_codes then
    form.codes, form.scale, form.transposed, form.sum =
      quantize(dy, rule.format, rule.blocksize, plan.rounding, nil, weight_codes or false, bias_dtype)
    if for_input and not input_codes or for_weight and not weight_codes then
      form.values = dequantize(form.codes, form.scale, rule.format, rule.blocksize, dtype_of(dy))
    end
  else
    form.values, form.sum = fake_quantize(dy, rule.format, rule.blocksize, plan.rounding, nil, nil, bias_dtype)
  end
  return form
end

local function input_grad(dy, weight, plan, dtype)
  if plan.native.input_grad then
    local weight_scale = scale_beside(plan.grad_output.scale, weight, plan, size(weight.transposed, 1))
    return scaled_matmul(dy.codes, dy.scale, weight.transposed, weight_scale, nil, dtype)
  end
  local rule = plan.weight
  local values = weight.values or
    dequantize(weight.codes, scale_beside("tensor", weight, plan), rule.format, rule.blocksize, dtype)
  return matmul(dy.values, values)
end

-- `kept`: what forward returned last.
local function quantized_weight_grad(dy, x, scale, kept, plan, dtype)
  if plan.native.weight_grad then return scaled_matmul(dy.transposed, dy.scale, kept, scale, nil, dtype) end
  local rule = plan.input
  local values = kept or
    fake_quantize(x, rule.format, rule.blocksize, plan.rounding, not plan.rounding and scale or nil)
  local grad = matmul(transpose(dy.values, 1, 2), values, nil, dtype)
  if not kept then free(values) end
  return grad
end

local function free_all(form)
  for _, tensor in pairs(form) do free(tensor) end
end

local operation = {
  name = "linear",
  backward = function(node, grad, x, scale, kept)
    local plan, inputs, weight = node.plan, node.inputs, node.weight
    local dy = contiguous(as_rows(grad))
    local grad_x, grad_weight, grad_bias
    local bias_dtype = inputs[3] and inputs[3].dtype or nil
    local for_weight = inputs[2] and plan and plan.quantized_weight_grad or false
    local quantized = plan and (inputs[1] or for_weight)
    if node.observer then node.observer("grad_output", dy, quantized and plan.grad_output or nil) end
    if quantized then
      local form = quantized_grad(dy, plan, inputs[1], for_weight, bias_dtype)
      grad_bias, form.sum = form.sum, nil
      if inputs[1] then grad_x = input_grad(form, weight, plan, node.dtype) end
      if for_weight then
        grad_weight = quantized_weight_grad(form, x and as_rows(x), scale, kept, plan, inputs[2].dtype)
      end
      free_all(form)
    elseif inputs[1] then
      grad_x = matmul(dy, weight)
    end
    if inputs[2] and not grad_weight then
      grad_weight = matmul(transpose(dy, 1, 2), as_rows(x), nil, inputs[2].dtype)
    end
    if inputs[3] and not grad_bias then grad_bias = core.sum(as_dtype(dy, bias_dtype), 1) end
    return grad_x and view(grad_x, node.input_shape), grad_weight, grad_bias
  end,
}

local function check(x, weight, bias)
  if not core.is_tensor(x) then raise("linear: the input must be a tensor, got " .. type(x)) end
  local dtype, weight_dtype = dtype_of(x), dtype_of(weight)
  if not computable[dtype] then raise("linear: the input must be f32, f16 or bf16, got " .. dtype) end
  if weight_dtype ~= dtype and weight_dtype ~= "f32" then
    raise(("linear: the weight must be %s, like the input, or f32, got %s"):format(dtype, weight_dtype))
  end
  if bias and not computable[dtype_of(bias)] then
    raise("linear: the bias must be f32, f16 or bf16, got " .. dtype_of(bias))
  end
  local shape, weight_shape = shape_of(x), shape_of(weight)
  if #shape < 1 or #shape > 4 then
    raise(("linear: the input must have 1 to 4 dimensions, got shape %s"):format(shape_text(shape)))
  end
  if #weight_shape ~= 2 then
    raise(("linear: the weight must have 2 dimensions, got shape %s"):format(shape_text(weight_shape)))
  end
  if shape[#shape] ~= weight_shape[2] then
    raise(("linear: input %s and weight %s: %d and %d features differ"):format(shape_text(shape),
      shape_text(weight_shape), shape[#shape], weight_shape[2]))
  end
  return shape, weight_shape[1]
end

--- y = x·Wᵀ + b.
-- @param x      (…, in), 1 to 4 dimensions, f32, f16 or bf16
-- @param weight (out, in) of x's dtype, or f32: master weights, whose gradient is f32 then
-- @param bias   (out), or nil
-- @param plan   from plan.make, or nil for products of unquantized values
-- @param cache  a table that is kept with the weight and holds its quantized form for the next call, or nil
-- @param observer nil, or a function that is called with "weight", "input" or "grad_output", that tensor as it is
--   before it is quantized, and the operand of the plan by which it is, or nil if it is not
-- @return (…, out) of x's dtype
return function(x, weight, bias, plan, cache, observer)
  local shape, out_features = check(x, weight, bias)
  if observer then
    observer("weight", weight, plan and plan.weight)
    observer("input", x, plan and plan.input)
  end
  local dtype = dtype_of(x)
  local for_input_grad, for_weight_grad = needs_grad(x), needs_grad(weight)
  local factor = plan and quantized_weight(weight, plan, dtype, for_input_grad, cache) or as_dtype(weight, dtype)
  local addend = bias and as_dtype(bias, dtype) or nil
  local y, scale, kept = forward(as_rows(x), factor, addend, plan, dtype, for_weight_grad)
  if #shape ~= 2 then
    local output_shape = {unpack(shape)}
    output_shape[#shape] = out_features
    y = view(y, output_shape)
  end
  if for_input_grad or for_weight_grad or needs_grad(bias) then
    local saved_x = for_weight_grad and not kept and x or false
    local node = record(y, operation, {x, weight, bias or false}, {saved_x, scale or false, kept or false})
    node.plan, node.input_shape, node.observer = plan, shape, observer
    if for_input_grad then
      node.weight = plan and shared_forms(factor) or factor
    end
  end
  return y
end

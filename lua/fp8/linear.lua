--- The differentiable linear function y = x·Wᵀ + b, in the precision that a plan says (plan.lua), or that of x.
--
--   y  = x·Wᵀ + b   of quantized x and W
--   dx = dy·W       of quantized dy and the W of the forward product
--   dW = dyᵀ·x      of unquantized dy and x, or of quantized ones
--   db = Σ dy       over rows
--
-- A product takes its operands as codes with scales, which FP8 tensor cores can multiply, or as values of x's dtype.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local shapes = require "fp8.shapes"

local needs_grad, record = autograd.needs_grad, autograd.record
local contiguous, convert, transpose, view = core.contiguous, core.to, core.transpose, core.view
local quantize, dequantize, fake_quantize = core.quantize, core.dequantize, core.fake_quantize
local matmul, scaled_matmul = core.matmul, core.scaled_matmul
local dtype_of, shape_of = core.dtype, core.shape
local as_rows, shape_text = shapes.as_rows, shapes.text
local raise = core.raise

local computable = {f32 = true, f16 = true, bf16 = true}
local no_products = {}

local function as_dtype(x, dtype)
  return dtype_of(x) == dtype and x or convert(x, {dtype = dtype})
end

-- A matrix and its quantized forms, each made when it is first asked for: `rule` is the plan's for this operand (nil:
-- none), `dtype` that of the values.
local function operand(matrix, rule, plan, dtype)
  return {matrix = matrix, rule = rule, rounding = plan and plan.rounding, dtype = dtype}
end

local function codes_of(x)
  if not x.codes then x.codes, x.scale = quantize(x.matrix, x.rule.format, x.rule.blocksize, x.rounding) end
  return x.codes, x.scale
end

local function values_of(x)
  if x.values then return x.values end
  local rule = x.rule
  if not rule then
    x.values = as_dtype(x.matrix, x.dtype)
  elseif x.codes then
    x.values = dequantize(x.codes, x.scale, rule.format, rule.blocksize, x.dtype)
  else
    x.values = fake_quantize(x.matrix, rule.format, rule.blocksize, x.rounding, x.dtype)
  end
  return x.values
end

-- Codes are multiplied along rows of both operands: what is summed over columns is transposed first.
local function transposed_codes_of(x)
  local codes, scale = codes_of(x)
  return contiguous(transpose(codes, 1, 2)), scale
end

local function input_grad(dy, weight, native)
  if not native then return matmul(values_of(dy), values_of(weight)) end
  local dy_codes, dy_scale = codes_of(dy)
  local weight_codes, weight_scale = transposed_codes_of(weight)
  return scaled_matmul(dy_codes, dy_scale, weight_codes, weight_scale, nil, dy.dtype)
end

local function weight_grad(dy, x, plan, dtype)
  if not plan or not plan.quantized_weight_grad then
    return matmul(transpose(dy.matrix, 1, 2), x.matrix, nil, dtype)
  elseif not plan.native.weight_grad or core.size(x.matrix, 1) == 0 then
    return matmul(transpose(values_of(dy), 1, 2), values_of(x), nil, dtype)
  end
  local dy_codes, dy_scale = transposed_codes_of(dy)
  local x_codes, x_scale = transposed_codes_of(x)
  return scaled_matmul(dy_codes, dy_scale, x_codes, x_scale, nil, dtype)
end

local operation = {
  name = "linear",
  backward = function(node, grad, x, weight_form, weight_scale)
    local plan, inputs, dtype = node.plan, node.inputs, node.dtype
    local native = plan and plan.native or no_products
    local dy = operand(contiguous(as_rows(grad)), plan and plan.grad_output, plan, dtype)
    local grad_x, grad_weight, grad_bias
    if inputs[1] then
      local weight = operand(nil, plan and plan.weight, plan, dtype)
      if native.forward then
        weight.codes, weight.scale = weight_form, weight_scale
      else
        weight.values = weight_form
      end
      grad_x = view(input_grad(dy, weight, native.input_grad), node.input_shape)
    end
    if inputs[2] then
      grad_weight = weight_grad(dy, operand(as_rows(x), plan and plan.input, plan, dtype), plan, inputs[2].dtype)
    end
    if inputs[3] then grad_bias = core.sum(as_dtype(dy.matrix, inputs[3].dtype), 1) end
    return grad_x, grad_weight, grad_bias
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
-- @return (…, out) of x's dtype
return function(x, weight, bias, plan)
  local shape, out_features = check(x, weight, bias)
  local dtype = dtype_of(x)
  local input = operand(as_rows(x), plan and plan.input, plan, dtype)
  local w = operand(weight, plan and plan.weight, plan, dtype)
  local addend = bias and as_dtype(bias, dtype) or nil
  local y
  if plan and plan.native.forward then
    local x_codes, x_scale = codes_of(input)
    local w_codes, w_scale = codes_of(w)
    y = scaled_matmul(x_codes, x_scale, w_codes, w_scale, addend, dtype)
  else
    y = matmul(values_of(input), transpose(values_of(w), 1, 2), addend)
  end
  if #shape ~= 2 then
    local output_shape = {unpack(shape)}
    output_shape[#shape] = out_features
    y = view(y, output_shape)
  end
  if needs_grad(x, weight, bias) then
    local saved_weight = needs_grad(x) and (w.codes or w.values)
    local node = record(y, operation, {x, weight, bias or false}, {needs_grad(weight) and x, saved_weight, w.scale})
    node.plan, node.input_shape = plan, shape
  end
  return y
end

--- The three products of a linear layer as a plan (plan.lua) has them:
--
--   y  = x·Wᵀ + b   of quantized x and W
--   dx = dy·W       of quantized dy and W
--   dW = dyᵀ·x      of quantized dy and x
--
-- A product takes its operands as codes with scales, which FP8 tensor cores can multiply, or as values of x's dtype.
-- Unless a recipe says otherwise, the cores accumulate y fast and the gradients, which lose more by it, accurately
-- (backend.h, scaled_matmul), as torchao and Transformer Engine do.
local core = require "fp8.core"
local as_dtype = require "fp8.linear.as_dtype"
local operands = require "fp8.linear.operands"
local transposed_matmul = require "fp8.ops.matmul.transposed"

local free, matmul = core.free, core.matmul
local scaled_matmul, scaled_matmul_add_ = core.scaled_matmul, core.scaled_matmul_add_
local dequantize, dtype_of, numel, quantize, size = core.dequantize, core.dtype, core.numel, core.quantize, core.size
local by_runs, delayed, scale_for, values_of = operands.by_runs, operands.delayed, operands.scale_for, operands.values
local values_both_ways = operands.values_both_ways
local quantize_activated, quantize_both_ways = operands.quantize_activated, core.quantize_both_ways
local times_transposed, transposed_times = transposed_matmul.times_transposed, transposed_matmul.transposed_times

local products = {}

local kept_names = {"scale", "transposed", "values", "source", "mask"} -- what `forward` may return beside y

-- As many values of a quantized x are kept for the backward pass: making them again would cost more than it saves.
-- Those of a script's function are kept however many they are: it takes several passes, and may draw random numbers.
local few_values = 2^20

-- What `forward` keeps, with what is not there to save work: the values from which the product for dW makes its
-- operand, the mask of x, and the signs of the transform.
local function with_source(kept, source, mask, signs, plan)
  if not (source or mask or signs and not plan.is_simple) then return kept end
  kept = kept or {}
  kept.source, kept.mask, kept.signs = source, mask, signs
  return kept
end

--- y, and what the backward products can use again, nil for nothing: {scale =, transposed =, values =, source =,
-- mask =, signs =}: the scales of x; its codes, transposed; or, without scales, the values that it was multiplied as,
-- unless the plan keeps x otherwise. The others are there where the plan needs them: values again, from which x is
-- quantized for dW; its mask; and the signs of its transform.
-- @param x               (rows, in)
-- @param weight          a form of W (operands.lua)
-- @param bias            of x's dtype, or nil
-- @param for_weight_grad whether there will be a product for dW
-- @param histories       as linear_state.histories_of gives them
-- @param for_input_grad  whether dx is wanted
function products.forward(x, weight, bias, plan, for_weight_grad, histories, for_input_grad)
  local product, weight_grad = plan.forward, for_weight_grad and not plan.keep and plan.weight_grad
  local operand = product.left
  local again = weight_grad and weight_grad.right == operand or false
  local transposing = again and weight_grad.native
  local as_source = weight_grad and weight_grad.right.from
  local known, dtype = delayed(x, operand, histories), dtype_of(x)
  local options = known and {known = known} or nil
  if product.native then
    local codes, scale, transposed, kept
    if weight_grad and plan.both_ways.input == "codes" then
      kept = {}
      codes, scale, kept.transposed, kept.scale =
        quantize_both_ways(x, operand.quantizer, weight_grad.right.quantizer)
    else
      codes, scale, transposed =
        quantize(x, operand.quantizer, transposing and "codes scale transposed" or "codes scale", options)
      kept = again and {scale = scale, transposed = transposed} or nil
    end
    local outputs, inputs = size(weight.codes, 1), size(weight.codes, 2)
    local weight_scale = scale_for(product, weight.scale, outputs, inputs)
    local y = scaled_matmul(codes, product.runs and by_runs(scale, inputs) or scale, weight.codes, weight_scale, dtype,
      {bias = bias, fast = product.fast})
    local source = as_source and dequantize(codes, scale, operand.quantizer, dtype) or nil
    free(codes)
    return y, with_source(kept, source, nil, nil, plan)
  end
  if weight_grad and plan.both_ways.input == "values" then
    local values, others = values_both_ways(x, operand, weight_grad.right, dtype, nil, weight.signs)
    local y = times_transposed(values, weight.values, bias)
    free(values)
    return y, with_source({values = others}, nil, nil, weight.signs, plan)
  end
  local values, scale, transposed, mask
  if transposing then
    local codes
    codes, scale, transposed = quantize(x, operand.quantizer, "codes scale transposed", options)
    values = dequantize(codes, scale, operand.quantizer, dtype)
    free(codes)
  else
    values, scale, mask = values_of(x, operand, again and "values scale" or "values", options, weight.signs,
      operand.mask and for_input_grad)
  end
  local y = times_transposed(values, weight.values, bias)
  local keeps = again and not transposing and not operand.full
  if keeps and (operand.quantize or numel(values) <= few_values) then
    return y, with_source({values = values}, nil, mask, weight.signs, plan)
  end
  if not as_source then free(values) end
  local known_again = again and scale and operand.scale_rounding ~= "e4m3"
  local kept = known_again and {scale = scale, transposed = transposed} or nil
  return y, with_source(kept, as_source and values or nil, mask, weight.signs, plan)
end

--- x as a plan keeps it between the passes (recipes' field `keep`): codes and scales.
function products.keep(x, plan) return quantize(x, plan.keep.quantizer, "codes scale") end

--- The values of that.
function products.kept_values(codes, scale, plan, dtype)
  return dequantize(codes, scale, plan.keep.quantizer, dtype)
end

--- Whether `forward_of_activated` can take the place of `forward`: what the product for dW needs of its left operand is
-- made with it.
function products.takes_activated(plan, for_weight_grad)
  local product, weight_grad = plan.forward, for_weight_grad and plan.weight_grad
  if not product.native or product.left.scale ~= "tensor" then return false end
  if not for_weight_grad then return true end
  return weight_grad and weight_grad.native and weight_grad.right == product.left or false
end

--- `forward`, for an activation function of x in place of x.
function products.forward_of_activated(x, activation, weight, bias, plan, for_weight_grad, histories)
  local product = plan.forward
  local outputs = for_weight_grad and "codes scale transposed" or "codes scale"
  local codes, scale, transposed = quantize_activated(x, nil, activation, product.left, outputs, nil, histories)
  local weight_scale = scale_for(product, weight.scale, size(weight.codes, 1))
  local y = scaled_matmul(codes, scale, weight.codes, weight_scale, dtype_of(x), {bias = bias, fast = product.fast})
  free(codes)
  return y, for_weight_grad and {scale = scale, transposed = transposed} or nil
end

--- Whether `grad_forms` can take the codes of a gradient that is not there itself.
function products.takes_source(plan, for_input, for_weight)
  local wants = plan.grad_forms
  if for_input and for_weight and not wants.both then return false end
  local product = for_input and plan.input_grad or for_weight and plan.weight_grad
  if not product or not product.native or product.left.scale ~= "tensor" then return false end
  return not for_weight or plan.weight_grad ~= nil and plan.weight_grad.native
end

-- The codes that a source makes.
local function form_of_source(dy, source, operand, wants, sum_dtype, histories)
  local options = sum_dtype and {sum_dtype = sum_dtype} or nil
  local outputs = (wants.codes and "codes " or "") .. "scale" .. (wants.transposed and " transposed" or "") ..
    (sum_dtype and " sum" or "")
  local list = {source:quantize(dy, operand, outputs, options, histories)}
  local form = {}
  if wants.codes then form.codes = table.remove(list, 1) end
  form.scale = table.remove(list, 1)
  if wants.transposed then form.transposed = table.remove(list, 1) end
  form.sum = list[1]
  return form
end

--- The list, with the tensors of what `forward` returned beside y, if that is not nil.
function products.with_kept(list, kept)
  if not kept then return list end
  for _, name in ipairs(kept_names) do list[#list + 1] = kept[name] end
  return list
end

-- dy in the forms that products need, and db, which comes out of the same pass.
-- @param signs those of its Hadamard transform, if they were drawn
local function quantized_grad(dy, operand, wants, sum_dtype, histories, source, signs)
  if source then return form_of_source(dy, source, operand, wants, sum_dtype, histories) end
  local known, quantizer = delayed(dy, operand, histories), operand.quantizer
  local options = (known or sum_dtype) and {known = known, sum_dtype = sum_dtype} or nil
  if not quantizer or operand.prepared and not operand.fused then
    local sum = sum_dtype and core.sum(as_dtype(dy, sum_dtype), 1) or nil
    return {values = values_of(dy, operand, "values", nil, signs), sum = sum, signs = signs}
  elseif operand.fused then
    local values, sum = core.quantize_values(dy, nil, sum_dtype, quantizer, operand.hadamard, operand.down or false,
      signs or operand.transform_signs)
    return {values = values, sum = sum, signs = signs}
  elseif not (wants.codes or wants.transposed) then
    local values, sum = quantize(dy, quantizer, sum_dtype and "values sum" or "values", options)
    return {values = values, sum = sum}
  elseif not (wants.codes or wants.values) then
    local transposed, scale, sum =
      quantize(dy, quantizer, sum_dtype and "transposed scale sum" or "transposed scale", options)
    return {transposed = transposed, scale = scale, sum = sum}
  end
  local codes, scale, transposed, sum
  if wants.transposed then
    codes, scale, transposed, sum =
      quantize(dy, quantizer, sum_dtype and "codes scale transposed sum" or "codes scale transposed", options)
  else
    codes, scale, sum = quantize(dy, quantizer, sum_dtype and "codes scale sum" or "codes scale", options)
  end
  local values = wants.values and dequantize(codes, scale, quantizer, dtype_of(dy)) or nil
  return {codes = codes, scale = scale, transposed = transposed, values = values, sum = sum}
end

--- dy for dx and for dW, nil for what is not needed, and db. One form serves both if they take the same operand.
-- @param sum_dtype of db, or nil for none
-- @param source nil, or if takes_source: an object that makes the gradient from dy, which is something else then, and
--   quantizes it. source:quantize(dy, operand, outputs, options, histories) is core.quantize of that, with the scale
--   from the operand's history if it has one
-- @param weight the form of W for dx
function products.grad_forms(dy, plan, for_input, for_weight, sum_dtype, histories, source, weight)
  local wants, first, second = plan.grad_forms, nil, nil
  local both = for_input and for_weight and wants.both
  local together = for_input and for_weight and plan.both_ways.grad_output
  if together == "values" then
    local signs = operands.drawn_signs(plan.weight_grad.left)
    local values, others, sum = values_both_ways(dy, plan.input_grad.left, plan.weight_grad.left, dtype_of(dy),
      sum_dtype, weight.signs, signs)
    return {values = values}, {values = others, signs = signs}, sum
  elseif together then
    local sum
    first, second = {}, {}
    first.codes, first.scale, second.transposed, second.scale, sum =
      quantize_both_ways(dy, plan.input_grad.left.quantizer, plan.weight_grad.left.quantizer, sum_dtype)
    return first, second, sum
  end
  if for_input then
    first = quantized_grad(dy, plan.input_grad.left, both or wants.first, sum_dtype, histories, source,
      weight.signs)
  end
  if for_weight and not both then
    local operand = plan.weight_grad.left
    second = quantized_grad(dy, operand, wants.second, not first and sum_dtype or nil, histories, source,
      operands.drawn_signs(operand))
  end
  local sum = (first or second).sum
  ;(first or second).sum = nil
  return first, both and first or second, sum
end

--- dx, of `dtype`, from forms of dy and W.
function products.input_grad(dy, weight, plan, dtype)
  local product = plan.input_grad
  if product.native then
    local inputs, outputs = size(weight.transposed, 1), size(weight.transposed, 2)
    local weight_scale = scale_for(product, weight.turned_scale or weight.scale, inputs, outputs, true)
    return scaled_matmul(dy.codes, product.runs and by_runs(dy.scale, outputs) or dy.scale, weight.transposed,
      weight_scale, dtype, {fast = product.fast})
  end
  local values = weight.values or
    dequantize(weight.codes, scale_for(product, weight.scale), product.right.quantizer, dtype)
  return matmul(dy.values, values)
end

-- dW from transposed codes of dy and x; or the sum, to which it is added.
local function product_of_codes(product, dy, x, x_scale, dtype, sum)
  local dy_scale = dy.scale
  if product.runs then
    local rows = size(x, 2)
    dy_scale, x_scale = by_runs(dy_scale, rows, true), by_runs(x_scale, rows, true)
  end
  if sum and not product.fast then return scaled_matmul_add_(sum, dy.transposed, dy_scale, x, x_scale) end
  return scaled_matmul(dy.transposed, dy_scale, x, x_scale, dtype, {fast = product.fast})
end

--- dW, of `dtype`.
-- @param dy   a form of it
-- @param x    (rows, in), not quantized; not used where `kept` has its codes or values
-- @param kept what `forward` returned beside y
-- @param sum  nil, or an f32 tensor that is to become a 16-bit gradient: a product of codes is added to that, and the
--   sum returned
function products.weight_grad(dy, x, kept, plan, dtype, histories, sum)
  local product = plan.weight_grad
  local operand = product.right
  if kept and kept.transposed then
    return product_of_codes(product, dy, kept.transposed, kept.scale, dtype, sum)
  elseif kept and kept.values then
    return transposed_times(dy.values, kept.values, dtype)
  end
  if kept and kept.source then x = kept.source end
  local known = kept and kept.scale or delayed(x, operand, histories)
  local options = known and {known = known} or nil
  if product.native then
    local transposed, scale = quantize(x, operand.quantizer, "transposed scale", options)
    return product_of_codes(product, dy, transposed, scale, dtype, sum)
  end
  local values = values_of(x, operand, "values", options, dy.signs)
  local grad = transposed_times(dy.values, values, dtype)
  free(values)
  return grad
end

-- grad · diag(signs), a text of + and -, for groups of columns; what whole groups leave stays as it is.
local function with_signs(grad, signs)
  local length, columns, list = #signs, size(grad, 2), {}
  local groups = math.floor(columns / length) * length
  for i = 1, columns do list[i] = i <= groups and signs:byte((i - 1) % length + 1) == 45 and -1 or 1 end
  local row = core.tensor(list, {dtype = dtype_of(grad), device = core.device(grad)})
  local result = core.mul(grad, row)
  free(row)
  return result
end

--- The gradient of x, or of W, from a product: transformed back where that was of transformed operands, and 0 where the
-- mask of y's operand is.
-- @param grad    (rows, in) or (out, in); freed, or returned itself
-- @param product that it is the result of, nil for one of unquantized dy and x
-- @param operand x or W in y
-- @param mask    of that, or nil
-- @param signs   those that were drawn for y's transform, or nil
function products.straight(grad, product, operand, mask, signs)
  local function become(other)
    free(grad)
    grad = other
  end
  if product and product.left.across then become(core.hadamard(grad, product.left.across, true)) end
  if product and product.right.across then become(core.hadamard(grad, product.right.across, false)) end
  local length, is_turned = operand.hadamard, product and product.right.from and operand.hadamard
  signs = signs or operand.transform_signs
  if mask and length and not is_turned then
    become(core.hadamard(grad, length, false, signs))
    is_turned = true
  end
  if mask then become(as_dtype(core.mul(grad, mask), dtype_of(grad))) end
  if is_turned then
    become(core.hadamard(grad, length, false))
    if signs then become(with_signs(grad, signs)) end
  end
  return grad
end

return products

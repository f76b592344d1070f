--- The quantized operands of a linear layer's products, and the forms of its weight, which are kept until it changes.
local core = require "fp8.core"
local as_dtype = require "fp8.linear.as_dtype"
local autograd = require "fp8.autograd"
local formats = require "fp8.linear.formats"
local repeated = require "fp8.linear.repeated"
local shapes = require "fp8.shapes"

local free, keep, raise, share = core.free, core.keep, core.raise, core.share
local narrow, numel, rank, size = core.narrow, core.numel, core.rank, core.size
local transpose, view = core.transpose, core.view
local quantize, dequantize, quantize_both_ways = core.quantize, core.dequantize, core.quantize_both_ways
local quantize_values = core.quantize_values
local contents_of, delayed_scale, version_of = core.contents, core.delayed_scale, core.version
local dtype_of = core.dtype
local quantize_activated = core.quantize_activated

local operands = {}

local unit_map = core.create_linear_map() -- largest value 1, so that scales are absmaxima

local forms = {"codes", "scale", "transposed", "turned_scale", "values", "mask"} -- of a quantized weight

-- The history of an operand, whether what is quantized enters it, and the fields that change if it does, with their
-- number: as core.delayed_scale takes them.
local function history_of(operand, histories)
  local history = histories.tensors[operand.history_field]
  if not history then raise("backward: a layer with delayed scaling was converted after its forward pass") end
  local record, recorded, field, contents = histories.record, histories.recorded, operand.history_field,
    histories.contents
  if not (record and contents) then return history, record end
  if recorded[field] == contents then record = "same" end
  return history, record, {recorded, field, contents}, 1
end

--- The scale that an operand's history gives, nil for one without.
-- @param histories as linear_state.histories_of gives them
function operands.delayed(x, operand, histories)
  if not operand.history then return nil end
  local history, record, fields, count = history_of(operand, histories)
  if not record then return delayed_scale(x, history, operand.quantizer, false) end
  return repeated.scale(histories.tensors, operand.history_field, delayed_scale, x, history, operand.quantizer, record,
    fields, count)
end

--- What core.quantize gives of an activation function of x, or, with a `grad`, of the gradient of x from that of its
-- result; with the scale that the operand's history gives, if it has one. Not inside fp8.recompute then.
-- @param activation "relu", "gelu", "gelu_tanh" or "silu"
function operands.quantize_activated(x, grad, activation, operand, outputs, options, histories)
  if not operand.history then
    return quantize_activated(x, grad, activation, operand.quantizer, outputs, options)
  end
  return quantize_activated(x, grad, activation, operand.quantizer, outputs, options, history_of(operand, histories))
end

--- The losses of cross-entropy, and what core.quantize gives of the gradient of the logits, which may become that; with
-- the scale that the operand's history gives, if it has one. Not inside fp8.recompute then.
function operands.quantize_cross_entropy(logits, targets, rule, dloss, operand, outputs, options, histories)
  local quantizer = operand.quantizer
  if not operand.history then
    return core.quantize_cross_entropy(logits, targets, rule, dloss, quantizer, outputs, options)
  end
  return core.quantize_cross_entropy(logits, targets, rule, dloss, quantizer, outputs, options,
    history_of(operand, histories))
end

-- What a script's function makes of x, which has two dimensions.
local function values_of_function(x, operand, dtype)
  local where = ("recipe: quantize of %s"):format(operand.name)
  local values = autograd.no_grad(operand.quantize, x, operand.name)
  if not core.is_tensor(values) then raise(("%s must return a tensor, got %s"):format(where, type(values))) end
  local same = rank(values) == 2 and size(values, 1) == size(x, 1) and size(values, 2) == size(x, 2)
  if not same or core.device(values) ~= core.device(x) then
    raise(("%s must return a tensor of shape %s on %s, got %s on %s"):format(where, shapes.text(core.shape(x)),
      core.device(x), shapes.text(core.shape(values)), core.device(values)))
  end
  values = as_dtype(values, dtype)
  return values == x and share(x) or values
end

--- Signs that are drawn for one product, as core.quantize_values takes them; nil for an operand whose signs are not.
function operands.drawn_signs(operand)
  return operand.signs == "step" and core.draw_signs(operand.hadamard) or nil
end

-- `next_one` in place of `before`, which is freed unless it is x.
local function replaced(x, before, next_one)
  if before ~= x then free(before) end
  return next_one
end

--- What is quantized of an operand: x itself, or a tensor that is the caller's; and of one that is smoothed what its
-- values are multiplied with again: for each column, or row, the power of two from its absmax up, 1 for 0.
-- @param x     (rows, columns)
-- @param signs those that have been drawn for the product, or nil
function operands.prepared(x, operand, signs)
  local result, factors = x, nil
  if operand.smooth then
    local of_lines = core.quantizer {
      format = unit_map, blocksize = operand.smooth == "row" and math.max(size(x, 2), 1) or {2^52, 1},
      scale_rounding = "power_of_two",
    }
    local scale = quantize(x, of_lines, "scale")
    local is_zero = core.eq(scale, 0)
    scale = replaced(nil, scale, core.where(is_zero, 1, scale))
    free(is_zero)
    if numel(x) > 0 then factors = view(scale, operand.smooth == "row" and {size(x, 1), 1} or {1, size(x, 2)}) end
    free(scale)
    if factors then result = as_dtype(core.div(x, factors), dtype_of(x)) end
  end
  if operand.hadamard then
    signs = signs or operand.transform_signs
    result = replaced(x, result, core.hadamard(result, operand.hadamard, operand.down or false, signs))
  end
  if operand.across then
    result = replaced(x, result, core.hadamard(result, operand.across, not operand.down))
  end
  return result, factors
end

-- More than the largest magnitude of a block, divided by its scale and multiplied again, may be above itself.
local slack = 1 + 2^-22

-- 1 where the elements of x, with these scales, lie inside the format's range, else 0.
local function mask_of(x, scale, operand)
  scale = core.mul(scale, slack)
  local quantizer, hardware = operand.quantizer, formats.is_hardware(operand.format)
  local function limits(code)
    local options = {dtype = hardware and operand.format or "u8", device = core.device(x)}
    local codes = core.full(core.shape(x), code, options)
    local limit = dequantize(codes, scale, quantizer, "f32")
    free(codes)
    return limit
  end
  local largest = hardware and formats.formats[operand.format].largest or 255
  local high, low = limits(largest), limits(hardware and -largest or 0)
  local below, above = core.le(x, high), core.ge(x, low)
  local mask = core.mul(below, above)
  for _, tensor in ipairs {scale, high, low, below, above} do free(tensor) end
  return mask
end

local function values_of_prepared(x, operand, outputs, options, signs, masking)
  local prepared, factors = operands.prepared(x, operand, signs)
  local values, scale = quantize(prepared, operand.quantizer, masking and "values scale" or outputs, options)
  local mask = masking and mask_of(prepared, scale, operand) or nil
  if prepared ~= x then free(prepared) end
  if factors then
    values = replaced(nil, values, as_dtype(core.mul(values, factors), dtype_of(values)))
    free(factors)
  end
  return values, scale, mask
end

--- What a product that takes no codes multiplies in place of x: values, and what else `outputs` names of an operand
-- that is neither full nor a function's; then, if there is to be one, a mask of x's shape: 1 where an element, as it
-- was quantized, lies inside the format's range, else 0.
-- @param x       (rows, columns)
-- @param outputs "values" or "values scale", but of one with a Hadamard transform "values" alone
-- @param options as core.quantize takes them: known =, dtype =
-- @param signs   those that have been drawn for the product, or nil
-- @param masking whether there is to be a mask, of an operand that has one
function operands.values(x, operand, outputs, options, signs, masking)
  if operand.fused then
    return quantize_values(x, options and options.dtype, nil, operand.quantizer, operand.hadamard,
      operand.down or false, signs or operand.transform_signs)
  end
  if operand.prepared then return values_of_prepared(x, operand, outputs, options, signs, masking) end
  if operand.quantizer then return quantize(x, operand.quantizer, outputs, options) end
  local dtype = options and options.dtype or dtype_of(x)
  if operand.quantize then return values_of_function(x, operand, dtype) end
  local values = as_dtype(x, dtype)
  return values == x and share(x) or values
end

--- The values of x as an operand of the matrix that its last dimension and all others make: new ones, of its shape.
function operands.values_in_shape(x, operand)
  local matrix = shapes.contiguous_rows(x)
  local values = operands.values(matrix, operand, "values")
  if matrix ~= x then free(matrix) end
  return shapes.as_shape(values, core.shape(x))
end

--- The values for two products, and the sums of x's columns, of `sum_dtype`, if that is not nil.
-- @param signs, other_signs those that have been drawn for the products, or nil
function operands.values_both_ways(x, operand, other, dtype, sum_dtype, signs, other_signs)
  return quantize_values(x, dtype, sum_dtype, operand.quantizer, operand.hadamard, operand.down or false,
    signs or operand.transform_signs, other.quantizer, other.hadamard, other.down or false,
    other_signs or other.transform_signs)
end

local function copy_to(cache, form)
  cache.weight = nil -- until the end it holds for no weight
  for _, name in ipairs(forms) do
    if cache[name] then free(cache[name]) end
    cache[name] = form[name]
    if form[name] then keep(form[name]) end
  end
  cache.contents, cache.map_version, cache.source_version = form.contents, form.map_version, form.source_version
  cache.dtype, cache.recorded = form.dtype, form.recorded
  cache.weight = form.weight
end

-- The version of an operand's map; false where it has none.
local function map_version_of(operand)
  local format = operand and operand.format
  return type(format) == "userdata" and version_of(format)
end

-- The last form for an operand of a layer, if it is of this weight as it is now and has what is wanted; nil otherwise.
-- @param source the operand that this one is made from, or nil
local function cached(weight, operand, wants, dtype, kept, record, source)
  local cache = kept and kept[operand]
  if not cache or cache.weight ~= weight or cache.contents ~= contents_of(weight) then return nil end
  local has_forms = (cache.codes or not wants.codes) and (cache.transposed or not wants.transposed) and
    (cache.values or not wants.values) and (cache.mask or not operand.mask)
  local same = cache.dtype == dtype and cache.map_version == map_version_of(operand) and
    cache.source_version == map_version_of(source) and (cache.recorded or not record)
  return same and has_forms and cache or nil
end

local function new_form(weight, operand, dtype, record, source)
  return {
    weight = weight, contents = contents_of(weight), map_version = map_version_of(operand),
    source_version = map_version_of(source), dtype = dtype, recorded = record,
  }
end

-- Whether an operand becomes the same each time.
local function is_fixed(operand)
  return not (operand.rounding or operand.full or operand.quantize or operand.signs == "step")
end

-- @param source the operand that this one is made from, or nil
local function store(kept, operand, form, source)
  if not kept or not is_fixed(operand) or source and not is_fixed(source) then return end
  kept[operand] = kept[operand] or {}
  copy_to(kept[operand], form)
end

--- The values of a form of W, its own ones or a tensor that is the caller's.
function operands.decoded(form, operand, dtype)
  if form.values then return form.values end
  local count = operand.scale == "tensor" and numel(form.scale) > 1
  local scale = count and narrow(form.scale, 1, 1, 1) or form.scale
  local values = dequantize(form.codes, scale, operand.quantizer, dtype)
  if count then free(scale) end
  return values
end

-- What is multiplied in place of W: {codes =, scale =} and {transposed =, scale =, turned_scale = nil or the same in
-- another order} for products of codes, {values =, signs = if they were drawn} of `dtype` for others. A layer
-- keeps the last of these for each operand: it serves again as long as the weight has not changed, as core.contents
-- tells. A stochastic one is drawn anew each time, as are signs, and so is that of a script's function.
-- @param wants  one of plan.weight_forms
-- @param kept   state.quantized_weight, or nil
-- @param source of an operand that is made from the forward product's: {form =, operand =} of that
local function quantized_weight(weight, operand, wants, dtype, kept, histories, source)
  local repeats = wants.repeats
  local record = operand.history ~= nil and histories.record
  local of = source and source.operand
  local cache = cached(weight, operand, wants, dtype, kept, record, of)
  if cache then return cache end
  local known, quantizer = operands.delayed(weight, operand, histories), operand.quantizer
  local options = (known or repeats) and {known = known, repeats = repeats} or nil
  local form, original = new_form(weight, operand, dtype, record, of), weight
  if source then weight = operands.decoded(source.form, of, dtype) end
  if not (wants.codes or wants.transposed) then
    form.signs = operands.drawn_signs(operand)
    local scale
    form.values, scale, form.mask =
      operands.values(weight, operand, "values", {known = known, dtype = dtype}, form.signs, operand.mask)
    if scale then free(scale) end
  elseif wants.transposed and not (wants.codes or wants.values) then
    form.transposed, form.scale = quantize(weight, quantizer, "transposed scale", options)
  elseif wants.codes and wants.transposed and type(operand.scale) == "table" and not operand.rounding then
    form.codes, form.scale, form.transposed, form.turned_scale = quantize_both_ways(weight, quantizer, quantizer)
  else
    local outputs = wants.transposed and "codes scale transposed" or "codes scale"
    form.codes, form.scale, form.transposed = quantize(weight, quantizer, outputs, options)
    if wants.values then
      local scale = repeats and narrow(form.scale, 1, 1, 1) or form.scale
      form.values = dequantize(form.codes, scale, quantizer, dtype)
    end
    if not wants.codes then
      free(form.codes)
      form.codes = nil
    end
  end
  if weight ~= original and weight ~= source.form.values then free(weight) end
  store(kept, operand, form, of)
  return form
end

-- Both forms, of different operands, in one go.
local function quantized_both_ways(weight, plan, dtype, kept)
  local first, second, wants = plan.forward.right, plan.input_grad.right, plan.weight_forms
  local form = cached(weight, first, wants.first, dtype, kept, false)
  local other = cached(weight, second, wants.second, dtype, kept, false)
  if form and other then return form, other end
  form, other = new_form(weight, first, dtype, false), new_form(weight, second, dtype, false)
  if plan.both_ways.weight == "values" then
    form.values, other.values = operands.values_both_ways(weight, first, second, dtype)
  else
    form.codes, form.scale, other.transposed, other.scale =
      quantize_both_ways(weight, first.quantizer, second.quantizer)
  end
  store(kept, first, form)
  store(kept, second, other)
  return form, other
end

--- The forms of W for the forward pass and for dx, nil where that is not needed; one form serves both products if
-- they take the same operand. Codes that a product of values needs later are decoded then.
-- @param state     of the layer, or nil
-- @param histories as linear_state.histories_of gives them
function operands.weight_forms(weight, plan, for_input_grad, dtype, state, histories)
  local operand, wants, kept = plan.forward.right, plan.weight_forms, state and state.quantized_weight
  if for_input_grad and plan.both_ways.weight then return quantized_both_ways(weight, plan, dtype, kept) end
  local first = for_input_grad and wants.both or wants.first
  local form = quantized_weight(weight, operand, first, dtype, kept, histories)
  if not for_input_grad or wants.both then return form, for_input_grad and form or nil end
  local second = plan.input_grad.right
  local source = second.from and {form = form, operand = operand} or nil
  return form, quantized_weight(weight, second, wants.second, dtype, kept, histories, source)
end

--- Scales of runs of 128 as scaled_matmul takes them: a row for each row of codes, or for 128 of them.
-- @param length  of what is summed over
-- @param turned  whether `scale` has the runs one after the other, not the rows
function operands.by_runs(scale, length, turned)
  if rank(scale) == 2 then return scale end
  local runs = math.ceil(length / 128)
  local count = numel(scale) / runs
  if not turned then return view(scale, {count, runs}) end
  local rows = view(scale, {runs, count})
  local columns = transpose(rows, 1, 2)
  free(rows)
  return columns
end

--- The weight's scale for a product of `columns` columns that sums over `length`.
-- @param turned whether it sums over the weight's rows
function operands.scale_for(product, scale, columns, length, turned)
  if product.runs then return operands.by_runs(scale, length, turned) end
  if product.repeats then return narrow(scale, 1, 1, columns) end
  return product.right.scale == "tensor" and numel(scale) > 1 and narrow(scale, 1, 1, 1) or scale
end

--- What the backward pass keeps of a form, for itself: the cache frees its own when the weight changes. By name and as
-- a list.
function operands.shared_forms(weight)
  local shared = {signs = weight.signs}
  for _, name in ipairs(forms) do
    if weight[name] then
      local tensor = share(weight[name])
      shared[name], shared[#shared + 1] = tensor, tensor
    end
  end
  return shared
end

return operands

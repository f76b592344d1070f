--- What x, W and b of a linear function must be.
local core = require "fp8.core"
local computable = require "fp8.computable"
local shapes = require "fp8.shapes"

local dtype_of, shape_of = core.dtype, core.shape
local raise, shape_text = core.raise, shapes.text

--- Raises an error unless x (…, in), weight (out, in) and bias (out, or nil) fit.
-- @param name of the function to name in errors
-- @return x's shape, and out
return function(name, x, weight, bias)
  if not core.is_tensor(x) then raise(("%s: the input must be a tensor, got %s"):format(name, type(x))) end
  local dtype, weight_dtype = dtype_of(x), dtype_of(weight)
  if not computable[dtype] then raise(("%s: the input must be f32, f16 or bf16, got %s"):format(name, dtype)) end
  if weight_dtype ~= dtype and weight_dtype ~= "f32" then
    if not computable[weight_dtype] then
      raise(("%s: the weight must be %s, like the input, or f32, got %s"):format(name, dtype, weight_dtype))
    end
    raise(('%s: the input is %s, the weight %s: write x:to "%s" or layer:to "%s"'):format(name, dtype, weight_dtype,
      weight_dtype, dtype))
  end
  if bias and not computable[dtype_of(bias)] then
    raise(("%s: the bias must be f32, f16 or bf16, got %s"):format(name, dtype_of(bias)))
  end
  local shape, weight_shape = shape_of(x), shape_of(weight)
  if #shape < 1 or #shape > 4 then
    raise(("%s: the input must have 1 to 4 dimensions, got shape %s"):format(name, shape_text(shape)))
  end
  if #weight_shape ~= 2 then
    raise(("%s: the weight must have 2 dimensions, got shape %s"):format(name, shape_text(weight_shape)))
  end
  if shape[#shape] ~= weight_shape[2] then
    raise(("%s: input %s and weight %s: %d and %d features differ"):format(name, shape_text(shape),
      shape_text(weight_shape), shape[#shape], weight_shape[2]))
  end
  return shape, weight_shape[1]
end

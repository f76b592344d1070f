--- The core's functions for quantization, which take and give tables, with arguments in a row for specs.
local core = require "fp8.core"

local positional = {}

local function quantizer(format, blocksize, rounding, scale_rounding)
  return core.quantizer {
    format = format, blocksize = blocksize, rounding = rounding, scale_rounding = scale_rounding,
  }
end

function positional.quantize(x, format, blocksize, rounding, known, transposed, sum, repeats, scale_rounding)
  local outputs = "codes scale" .. (transposed and " transposed" or "") .. (sum and " sum" or "")
  local codes, scale, third, fourth = core.quantize(x, quantizer(format, blocksize, rounding, scale_rounding), outputs,
    {known = known, sum_dtype = sum, repeats = repeats})
  if not transposed then return codes, scale, nil, third end
  return codes, scale, third, fourth
end

function positional.fake_quantize(x, format, blocksize, rounding, known, dtype, sum, keep_scale, scale_rounding)
  local outputs = "values" .. (keep_scale and " scale" or "") .. (sum and " sum" or "")
  local values, second, third = core.quantize(x, quantizer(format, blocksize, rounding, scale_rounding), outputs,
    {known = known, dtype = dtype, sum_dtype = sum})
  if not keep_scale then return values, second end
  return values, third, second
end

function positional.dequantize(codes, scale, format, blocksize, dtype)
  return core.dequantize(codes, scale, quantizer(format, blocksize), dtype)
end

function positional.delayed_scale(x, history, format, scale_rounding, record)
  return core.delayed_scale(x, history, quantizer(format, nil, nil, scale_rounding), record)
end

function positional.compare(row, x, values, scale, format, blocksize)
  core.compare(row, x, values, scale, scale and quantizer(format, blocksize))
end

function positional.compare_quantized(row, x, format, blocksize, known, dtype, scale_rounding)
  core.compare_quantized(row, x, quantizer(format, blocksize, nil, scale_rounding), known, dtype)
end

function positional.scaled_matmul(a, scale_a, b, scale_b, bias, dtype, fast)
  return core.scaled_matmul(a, scale_a, b, scale_b, dtype, {bias = bias, fast = fast})
end

return positional

--- Quantizing whole tensors by hand, with the interface of bitsandbytes' functional module.
local core = require "fp8.core"
local check_options = require "fp8.check_options"

local raise = core.raise

local quantize = {}

local known_options = {rounding = true}

local function quantized(name, x, map, blocksize, options)
  local rounding = check_options(name, options, known_options).rounding
  local quantizer = core.quantizer {format = map, blocksize = blocksize, rounding = rounding}
  local codes, absmax = core.quantize(x, quantizer, "codes scale")
  return codes, {absmax = absmax, map = map, blocksize = blocksize, dtype = core.dtype(x)}
end

local function check_blocksize(name, blocksize)
  if type(blocksize) == "number" and blocksize >= 64 and blocksize <= 4096 then
    local mantissa = math.frexp(blocksize)
    if mantissa == 0.5 then return end
  end
  raise(("%s: blocksize must be a power of two from 64 to 4096, got %s"):format(name, tostring(blocksize)))
end

local function dequantize(name, codes, state, blocksize)
  if type(state) ~= "table" then
    raise(("%s: state must be the table that quantizing returned, got %s"):format(name, type(state)))
  end
  return core.dequantize(codes, state.absmax, core.quantizer {format = state.map, blocksize = blocksize}, state.dtype)
end

--- Quantizes x in blocks of its elements in row-major order, across row ends; the last block may be short.
--
-- codes[i] is the position in `map` nearest to x[i] · (1 / absmax), a tie going to the even one. A NaN or an infinity
-- makes its whole block NaN.
-- @param x         f32, f16 or bf16
-- @param map       256 ascending f32 values on the CPU; or "e4m3" or "e5m2", whose codes are of that dtype, and whose
--                  state.absmax holds absmax divided by the format's largest value
-- @param blocksize power of two from 64 to 4096; 4096 if left out
-- @param options   {rounding = "nearest" or "stochastic"}
-- @return codes of x's shape (u8), and state = {absmax = (blocks) f32, map =, blocksize =, dtype = that of x}
--   local codes, state = fp8.quantize_blockwise(fp8.tensor {1, -0.5, 0.25}, fp8.create_map(true, 4, 3, 8), 64)
--   codes.dtype --> "u8"
--   state.absmax --> {1}
function quantize.quantize_blockwise(x, map, blocksize, options)
  blocksize = blocksize == nil and 4096 or blocksize
  check_blocksize("quantize_blockwise", blocksize)
  return quantized("quantize_blockwise", x, map, blocksize, options)
end

--- map[codes[i]] · absmax of its block, in float32, rounded to state.dtype.
--   fp8.dequantize_blockwise(fp8.quantize_blockwise(fp8.tensor {1, -0.5, 0.25}, "e4m3", 64)) --> {1, -0.5, 0.25}
function quantize.dequantize_blockwise(codes, state)
  if type(state) == "table" then check_blocksize("dequantize_blockwise: state", state.blocksize) end
  return dequantize("dequantize_blockwise", codes, state, type(state) == "table" and state.blocksize)
end

--- quantize_blockwise with one block, the whole tensor, whose elements are divided by absmax.
-- @return codes of x's shape, and state = {absmax = (1) f32, map =, dtype = that of x}
--   fp8.quantize(fp8.tensor {448, 1}, "e4m3") --> {448, 1}
function quantize.quantize(x, map, options)
  return quantized("quantize", x, map, nil, options)
end

--- map[codes[i]] · absmax, in float32, rounded to state.dtype.
--   fp8.dequantize(fp8.quantize(fp8.tensor {2, -1}, fp8.create_map())) --> {2, -1}
function quantize.dequantize(codes, state) return dequantize("dequantize", codes, state, nil) end

return quantize

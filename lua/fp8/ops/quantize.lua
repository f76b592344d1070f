--- Quantizing whole tensors by hand, with the interface of bitsandbytes' functional module.
local core = require "fp8.core"
local check_options = require "fp8.check_options"
local planning = require "fp8.linear.plan"
local recipe_check = require "fp8.linear.recipe_check"

local raise = core.raise

local quantize = {}

local known_options = {
  rounding = true, scale = true, scale_rounding = true, second_scale = true, headroom = true, constant_scale = true,
  range = true, candidates = true, largest_scale = true,
}

local function quantized(name, x, format, scale, options)
  options = check_options(name, options, known_options)
  if not core.is_tensor(x) then raise(("%s: a tensor is needed, got %s"):format(name, type(x))) end
  local rank = core.rank(x)
  if scale == nil then scale = options.scale == nil and "tensor" or options.scale end
  recipe_check.check_scale(name .. ": scale", scale)
  local blocksize = planning.blocks_of(scale, rank > 0 and core.size(x, rank) or 1)
  recipe_check.check_fit(name .. ": options", options)
  local fields = {format = format}
  for option in pairs(known_options) do fields[option] = options[option] end
  local quantizer = planning.quantizer(fields, blocksize, options.rounding)
  local codes, absmax = core.quantize(x, quantizer, "codes scale")
  return codes, {absmax = absmax, map = format, blocksize = blocksize, dtype = core.dtype(x)}
end

local function dequantize(name, codes, state)
  if type(state) ~= "table" then
    raise(("%s: state must be the table that quantizing returned, got %s"):format(name, type(state)))
  end
  local quantizer = core.quantizer {format = state.map, blocksize = state.blocksize}
  return core.dequantize(codes, state.absmax, quantizer, state.dtype)
end

--- Quantizes x in blocks of its elements in row-major order, across row ends, the last of which may be short; or in
-- those of any scale that recipes know.
--
-- codes[i] is the position in `map` nearest to x[i] · (1 / absmax), a tie going to the even one. A NaN or an infinity
-- makes its whole block NaN.
--
--   fp8.quantize_blockwise(fp8.tensor {-1, 0, 1}, "int4", 16) --> {121, 128, 135}
--
-- @param x         f32, f16 or bf16
-- @param map       256 ascending f32 values on the CPU; or the name of a format (fp8.formats), whose state.absmax holds
--                  what codes are multiplied with: absmax divided by the format's largest value, or what that is
--                  rounded to. Codes of "e4m3" and "e5m2" are of that dtype, those of others positions in a map of
--                  their values (fp8.code_bits)
-- @param blocksize a block length, or another scale of a recipe: "row", {1, 32}, …; 4096 if left out
-- @param options   {rounding = "nearest" or "stochastic": to one of the two neighbours at random, such that the
--                  expected value is x, to 2^-17 of the step between them, and what is less than that of a step from a
--                  neighbour may always become it; an element decides by 16 random bits of its own; scale_rounding =,
--                  second_scale =, headroom =, constant_scale =, range =, candidates =, largest_scale = as in
--                  fp8.recipes}
-- @return codes of x's shape (u8), and state = {absmax = (blocks) f32, map =, blocksize = a length or a tile, dtype =
--   that of x}
--   local codes, state = fp8.quantize_blockwise(fp8.tensor {1, -0.5, 0.25}, fp8.create_map(true, 4, 3, 8), 64)
--   codes.dtype --> "u8"
--   state.absmax --> {1}
function quantize.quantize_blockwise(x, map, blocksize, options)
  return quantized("quantize_blockwise", x, map, blocksize == nil and 4096 or blocksize, options)
end

--- map[codes[i]] · absmax of its block, in float32, rounded to state.dtype.
--   fp8.dequantize_blockwise(fp8.quantize_blockwise(fp8.tensor {1, -0.5, 0.25}, "e4m3", 64)) --> {1, -0.5, 0.25}
function quantize.dequantize_blockwise(codes, state) return dequantize("dequantize_blockwise", codes, state) end

--- quantize_blockwise with one block, the whole tensor, whose elements are divided by absmax where the format is a map;
-- or with the blocks of options.scale.
-- @return codes of x's shape, and state = {absmax = (1) f32, map =, dtype = that of x}
--   fp8.quantize(fp8.tensor {448, 1}, "e4m3") --> {448, 1}
function quantize.quantize(x, map, options) return quantized("quantize", x, map, nil, options) end

--- map[codes[i]] · absmax, in float32, rounded to state.dtype.
--   fp8.dequantize(fp8.quantize(fp8.tensor {2, -1}, fp8.create_map())) --> {2, -1}
function quantize.dequantize(codes, state) return dequantize("dequantize", codes, state) end

--- The Hadamard transform of groups of elements of rows, y = x · diag(s) · H / √length: recipes' field `hadamard`. What
-- is left of a row after whole groups stays as it is. In float32, rounded once; no gradient goes through it.
--
--   fp8.hadamard(fp8.ones(16), 16):sum() --> 4
--
-- @param x      f32, f16 or bf16
-- @param length 16, 32, 64 or 128
-- @param signs  nil, or a list of `length` times 1 or -1: s
-- @return of x's shape and dtype
function quantize.hadamard(x, length, signs)
  if not core.is_tensor(x) then raise("hadamard: a tensor is needed, got " .. type(x)) end
  recipe_check.check_transform("hadamard", length, signs)
  local text
  if signs then
    text = {}
    for i = 1, length do text[i] = signs[i] < 0 and "-" or "+" end
  end
  return core.hadamard(x, length, false, text and table.concat(text))
end

return quantize

--- Number formats that have names: which there are, and their codes as their standards write them.
local core = require "fp8.core"
local check_options = require "fp8.check_options"
local later = require "fp8.later"

local raise = core.raise

local formats = {}

--- fp8.formats: what each named format can say, by its name. Wherever a format is taken, such a name will do.
--
--   bits             of a code
--   largest          number; quantizing scales a block's absmax to it
--   smallest_normal  the smallest that has all bits of its mantissa; of nf4 and integers the smallest above 0
--   smallest         above 0
--   hardware         true of those that are dtypes, which FP8 tensor cores multiply; the others are maps of their
--   values
--
-- e4m3, e5m2, e2m1, e2m3 and e3m2 are those of the OCP (8-bit Floating Point and Microscaling Formats specifications,
-- 2023), int8 and int4 symmetric integers, nf4 is QLoRA's (Dettmers et al., 2023).
--
--   fp8.formats.e2m1.largest --> 6
formats.formats = {
  e4m3 = {bits = 8, largest = 448, smallest_normal = 2^-6, smallest = 2^-9, hardware = true},
  e5m2 = {bits = 8, largest = 57344, smallest_normal = 2^-14, smallest = 2^-16, hardware = true},
}

local sides = {} -- values below and above 0
for _, format in ipairs(core.small_formats()) do
  formats.formats[format.name] = {
    bits = format.bits, largest = format.largest, smallest_normal = format.smallest_normal, smallest = format.smallest,
    hardware = false,
  }
  sides[format.name] = {below = format.below, above = format.above}
end

--- Whether a format's name is that of a dtype; nil if there is no such name.
function formats.is_hardware(name)
  local format = type(name) == "string" and rawget(formats.formats, name)
  if format then return format.hardware end
end

--- The names, sorted.
function formats.names()
  local names = {}
  for name in pairs(formats.formats) do names[#names + 1] = name end
  table.sort(names)
  return names
end

--- The map of a named format that is no dtype: f32 (256), its values divided by the largest, zeros filling up what
-- fewer codes leave.
function formats.map_of(name)
  local side, largest, values = sides[name], formats.formats[name].largest, {}
  local codes = core.arange(128 - side.below, 129 + side.above, 1, {dtype = "i64", device = "cpu"})
  local scale = core.ones({1}, {dtype = "f32", device = "cpu"})
  local decoded = core.dequantize(core.to(codes, {dtype = "u8"}), scale, core.quantizer {format = name}, "f32")
  for i, value in ipairs(core.totable(decoded)) do values[i] = value / largest end
  while #values < 256 do values[#values + 1] = 0 end
  table.sort(values)
  return core.tensor(values, {dtype = "f32", device = "cpu"})
end

--- A map of the numbers that so many exponent and mantissa bits make, as IEEE 754 has them: with subnormal numbers,
-- which create_map leaves out. Divided by the largest of them, like all maps.
--
--   fp8.create_float_map(3, 4):max() --> 1
--
-- @param exponent_bits at least 1; with mantissa_bits and the sign 2 to 8 bits
-- @param mantissa_bits at least 0
-- @param options {bias = of the exponent (2^(exponent_bits - 1) - 1), infinity = whether the largest exponent is none
--                 of a number, as in IEEE 754 (false), signed = true}
-- @return f32 (256), ascending; zeros fill up what fewer bits leave
function formats.create_float_map(exponent_bits, mantissa_bits, options)
  options = check_options("create_float_map", options, {bias = "number", infinity = "boolean", signed = "boolean"})
  if type(exponent_bits) ~= "number" or type(mantissa_bits) ~= "number" then
    raise(("create_float_map: exponent_bits and mantissa_bits must be numbers, got %s and %s"):format(
      type(exponent_bits), type(mantissa_bits)))
  end
  return core.create_float_map(exponent_bits, mantissa_bits, options.bias, options.infinity, options.signed)
end

local zero = 128 -- the position of 0 in the map of a named format

-- Pairs of 4-bit codes, the first in the lower half of a byte.
local function packed(bits)
  local count = core.numel(bits)
  if count % 2 == 1 then raise "code_bits: an odd number of codes can't be packed in pairs" end
  local pairs_of_codes = core.view(bits, {count / 2, 2})
  return core.add(core.select(pairs_of_codes, 2, 1), core.mul(core.select(pairs_of_codes, 2, 2), 16))
end

--- The bits of codes of a named format as its standard has them, in the low bits of a byte each: sign, exponent,
-- mantissa; of int8 and int4 the two's complement; of nf4 the position among its 16 values. A zero has no sign.
--
--   local codes = fp8.quantize(fp8.tensor {6, -0.5, 1}, "e2m1")
--   fp8.code_bits(codes, "e2m1"):totable()[2] --> 9
--
-- @param codes   of quantize or quantize_blockwise with a format of this name
-- @param format  the name; not that of a dtype, whose codes are its bits
-- @param options {packed = true}: two codes of 4 bits a byte, the first in the lower half; one dimension
-- @return u8
function formats.code_bits(codes, format, options)
  options = check_options("code_bits", options, {packed = "boolean"})
  local side = sides[format]
  if not side then
    raise(("code_bits: format must be one of fp8.formats that is no dtype, got %s%s"):format(tostring(format),
      later("fp8.nearest").hint(format, sides)))
  end
  if not core.is_tensor(codes) or core.dtype(codes) ~= "u8" then
    raise("code_bits: codes must be a u8 tensor, got " .. (core.is_tensor(codes) and core.dtype(codes) or type(codes)))
  end
  local bits_each = formats.formats[format].bits
  local position = core.sub(core.to(codes, {dtype = "i32"}), zero)
  position = core.clamp(position, -side.below, side.above)
  local bits
  if format == "nf4" then
    bits = core.add(position, side.below)
  elseif format == "int8" or format == "int4" then
    bits = core.where(core.lt(position, 0), core.add(position, 2 ^ bits_each), position)
  else
    bits = core.where(core.lt(position, 0), core.sub(2 ^ (bits_each - 1), position), position)
  end
  bits = core.to(bits, {dtype = "u8"})
  if not options.packed then return bits end
  if bits_each ~= 4 then raise("code_bits: codes of " .. format .. " have more than 4 bits") end
  return packed(bits)
end

return formats

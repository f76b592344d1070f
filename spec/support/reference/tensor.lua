--- Strided tensors of Lua numbers: what fp8's tensors are by definition, with index arithmetic and no thought of speed.
--
-- A tensor is {dtype =, shape =, stride =, offset =, storage =}; a storage is a list that tensors share. Elements of
-- integer dtypes are int64_t cdata, all others doubles.
local bit = require "bit"
local ffi = require "ffi"
local integers = require "spec.support.integers"
local reference = require "spec.support.reference"

local tensor = {}

local int64 = ffi.typeof "int64_t"

function tensor.is_integer(dtype) return integers.range[dtype] ~= nil end

function tensor.count(shape)
  local count = 1
  for _, size in ipairs(shape) do count = count * size end
  return count
end

function tensor.row_major(shape)
  local stride, step = {}, 1
  for d = #shape, 1, -1 do
    stride[d], step = step, step * math.max(shape[d], 1)
  end
  return stride
end

--- A tensor of its own from its elements, row-major.
function tensor.new(dtype, shape, list)
  return {dtype = dtype, shape = shape, stride = tensor.row_major(shape), offset = 0, storage = list}
end

--- Another tensor over the same storage.
function tensor.view(x, shape, stride, offset)
  return {dtype = x.dtype, shape = shape, stride = stride, offset = offset or x.offset, storage = x.storage}
end

--- Where the elements are in the storage, in row-major order.
function tensor.positions(x)
  local list, shape, stride = {}, x.shape, x.stride
  local function walk(d, position)
    if d > #shape then
      list[#list + 1] = position
      return
    end
    for i = 0, shape[d] - 1 do walk(d + 1, position + i * stride[d]) end
  end
  walk(1, x.offset + 1)
  return list
end

--- The elements, row-major.
function tensor.list(x)
  local list = tensor.positions(x)
  for i = 1, #list do list[i] = x.storage[list[i]] end
  return list
end

--- Overwrites the elements.
function tensor.write(x, list)
  for i, position in ipairs(tensor.positions(x)) do x.storage[position] = list[i] end
end

function tensor.is_contiguous(x)
  if tensor.count(x.shape) == 0 then return true end
  local expected = tensor.row_major(x.shape)
  for d, size in ipairs(x.shape) do
    if size > 1 and x.stride[d] ~= expected[d] then return false end
  end
  return true
end

--- x expanded to a shape that it broadcasts to.
function tensor.expand(x, shape)
  local stride, added = {}, #shape - #x.shape
  for d = 1, #shape do
    local own = d > added and x.shape[d - added]
    stride[d] = own and (own ~= 1 or shape[d] == 1) and x.stride[d - added] or 0
  end
  return tensor.view(x, shape, stride)
end

--- x in another shape over the same storage, nil where no strides give it: those that its first elements ask for must
-- lead to all others.
function tensor.reshaped(x, shape)
  local positions, stride = tensor.positions(x), {}
  local step = tensor.row_major(shape)
  for d, size in ipairs(shape) do
    stride[d] = size > 1 and #positions > 0 and positions[1 + step[d]] - positions[1] or 1
  end
  local view = tensor.view(x, shape, stride)
  for i, position in ipairs(tensor.positions(view)) do
    if position ~= positions[i] then return nil end
  end
  return view
end

-- An integer rounded once to float32. Doubles don't hold all: bits that can't decide are gathered into one first.
local function float_of_integer(value)
  if value > -2LL ^ 53 and value < 2LL ^ 53 then return reference.f32(tonumber(value)) end
  local high, low = bit.band(value, bit.bnot(0xfffLL)), bit.band(value, 0xfffLL)
  if low ~= 0 then high = bit.bor(high, 0x1000LL) end
  return reference.f32(tonumber(high))
end

--- An element as the float32 value that arithmetic takes.
function tensor.float(value)
  return type(value) == "cdata" and float_of_integer(value) or value
end

-- Rounded as a dtype that does not saturate: e4m3 has no infinity, and its last value is 448.
local unsaturated = {
  e4m3 = function(x)
    local rounded = math.abs(x) <= 464 and reference.round.e4m3(x) or 0 / 0
    return rounded
  end,
  e5m2 = function(x)
    if math.abs(x) < 61440 or x ~= x then return reference.round.e5m2(x) end
    return x > 0 and math.huge or -math.huge
  end,
}

--- An element or a number converted to a dtype.
-- @param saturates whether casts to float8 do, as all but x:to{saturate = false} do
function tensor.cast(value, dtype, saturates)
  if tensor.is_integer(dtype) then
    if type(value) == "cdata" then return integers.saturated(value, dtype) end
    return integers.from_number(value, dtype)
  end
  value = tensor.float(value)
  if saturates == false and unsaturated[dtype] then return unsaturated[dtype](value) end
  return reference.round[dtype](value)
end

-- The bits of narrow floats as numbers, by formula.
local function decoder(exponent_bits, fraction_bits, has_infinity)
  local bias, known = 2 ^ (exponent_bits - 1) - 1, {}
  local top = 2 ^ exponent_bits - 1
  return function(bits)
    if known[bits] then return known[bits] end
    local fraction = bits % 2 ^ fraction_bits
    local exponent = math.floor(bits / 2 ^ fraction_bits) % 2 ^ exponent_bits
    local sign = bits >= 2 ^ (exponent_bits + fraction_bits) and -1 or 1
    local value
    if exponent == top and has_infinity then
      value = fraction == 0 and math.huge or 0 / 0
    elseif exponent == top and fraction == 2 ^ fraction_bits - 1 then
      value = 0 / 0
    elseif exponent == 0 then
      value = fraction * 2 ^ (1 - bias - fraction_bits)
    else
      value = (1 + fraction / 2 ^ fraction_bits) * 2 ^ (exponent - bias)
    end
    known[bits] = sign * value
    return known[bits]
  end
end

-- A NaN that LuaJIT were to read as a float could be any of its values (all else begins with the bits of a NaN there).
local cell = ffi.new "union { uint32_t bits; float number; }"
local function decode_f32(bits)
  if bits % 2 ^ 31 > 0x7f800000 then return 0 / 0 end
  cell.bits = bits
  return cell.number
end

local decoders = {
  f32 = decode_f32, f16 = decoder(5, 10, true), bf16 = decoder(8, 7, true), e4m3 = decoder(4, 3, false),
  e5m2 = decoder(5, 2, true), u8 = int64, i32 = int64, i64 = int64,
}

--- The elements of one of fp8's tensors, row-major.
function tensor.read(x)
  local count = x:numel()
  if count == 0 then return {} end
  local copy = x:detach():cpu():contiguous()
  local bits, decode, list = copy:data(), decoders[x.dtype], {}
  if x.dtype == "f32" then bits = ffi.cast("uint32_t *", bits) end
  for i = 1, count do list[i] = decode(bits[i - 1]) end
  assert(copy:numel() == count) -- which keeps the memory until here
  return list
end

return tensor

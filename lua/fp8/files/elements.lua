--- Elements of tensors as files have them.
local bit = require "bit"
local ffi = require "ffi"
local core = require "fp8.core"

ffi.cdef "size_t fread(void *data, size_t size, size_t count, void *file);"

local C = ffi.C

local elements = {}

local doubles_at_once = 65536
local nan = 0 / 0

local booleans = setmetatable({}, {__mode = "k"}) -- the tensors that were read from booleans

local function fail(message, ...) error({message = message:format(...)}, 0) end

--- Whether a tensor was read from booleans and still has nothing else: it may have been written to.
function elements.is_boolean(tensor)
  return booleans[tensor] and (core.numel(tensor) == 0 or core.item(core.max(tensor)) <= 1) or false
end

--- The function read(address, bytes) of a file.
function elements.reader(file)
  return function(address, bytes)
    if tonumber(C.fread(address, 1, bytes, file)) ~= bytes then fail("can't read: the file is shorter than it was") end
  end
end

local function swap(address, count, size)
  local bytes = ffi.cast("uint8_t *", address)
  for element = 0, count * size - 1, size do
    for i = 0, size / 2 - 1 do
      local other = size - 1 - i
      bytes[element + i], bytes[element + other] = bytes[element + other], bytes[element + i]
    end
  end
end

-- A NaN may have any bits. LuaJIT keeps what isn't a number in those that no processor makes: read as a number such a
-- NaN would be nil, or an address.
local function read_doubles(read, address, count, is_swapped)
  local target, buffer = ffi.cast("float *", address), ffi.new("double[?]", math.min(count, doubles_at_once))
  local words = ffi.cast("uint32_t *", buffer)
  for start = 0, count - 1, doubles_at_once do
    local length = math.min(count - start, doubles_at_once)
    read(buffer, 8 * length)
    if is_swapped then swap(buffer, length, 8) end
    for i = 0, length - 1 do
      local high = bit.band(words[2 * i + 1], 0x7FFFFFFF)
      local is_nan = high > 0x7FF00000 or high == 0x7FF00000 and words[2 * i] ~= 0
      target[start + i] = is_nan and nan or buffer[i]
    end
  end
end

--- A tensor of elements that a file has.
-- @param read   read(address, bytes) puts the next bytes of the file there
-- @param entry  {shape =, dtype =, count = of elements, bytes = in the file, is_double =, is_boolean =, is_swapped =
--   whether the most significant byte of an element comes first}
-- @param device where the tensor goes, nil for the CPU
function elements.read(read, entry, device)
  local tensor = core.empty(entry.shape, {dtype = entry.dtype, device = "cpu"})
  if entry.is_double then
    read_doubles(read, core.data(tensor), entry.count, entry.is_swapped)
  elseif entry.bytes > 0 then
    read(core.data(tensor), entry.bytes)
    if entry.is_swapped then swap(core.data(tensor), entry.count, entry.bytes / entry.count) end
  end
  if device then tensor = core.to(tensor, {device = device}) end
  if entry.is_boolean then booleans[tensor] = true end
  return tensor
end

--- The tensor's elements in their order, in the CPU's memory.
function elements.on_cpu(tensor) return core.contiguous(core.to(tensor, {device = "cpu"})) end

return elements

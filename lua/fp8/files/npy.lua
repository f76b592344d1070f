--- .npy, NumPy's file of one array (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html): a magic,
-- the version, the length of a header, which is a dictionary as Python writes it, and the elements. Reading trusts
-- nothing that the header says.
local core = require "fp8.core"
local elements = require "fp8.files.elements"
local dtypes = core.dtypes

local npy = {options = {device = "device", f64 = true}}

local largest_header = 2^16 -- of one array; structured types, which are not read, have long ones
local largest_rank = 8

-- By NumPy's letter and bytes. bool is read as u8; f64 only by request.
local types = {
  f4 = {dtype = "f32"}, f2 = {dtype = "f16"}, u1 = {dtype = "u8"}, i4 = {dtype = "i32"}, i8 = {dtype = "i64"},
  b1 = {dtype = "u8", is_boolean = true}, f8 = {dtype = "f32", is_double = true},
}
local names = {f32 = "<f4", f16 = "<f2", u8 = "|u1", i32 = "<i4", i64 = "<i8"}

local function fail(message, ...) error({message = message:format(...)}, 0) end

-- The value of a key, and the text without both.
local function take(text, key, pattern)
  local first, last, value = text:find("'" .. key .. "'%s*:%s*(" .. pattern .. ")%s*%f[,}],?")
  if not first then fail("the header has no %s that is understood", key) end
  return value, text:sub(1, first - 1) .. text:sub(last + 1)
end

local function read_shape(text)
  local inside = text:sub(2, -2):gsub("%s", "")
  local shape, count = {}, 1
  if inside ~= "" and not inside:find "^%d+,$" and not inside:find "^%d+,[%d,]*%d,?$" then
    fail("the shape %s is not understood", text)
  end
  for digits in inside:gmatch "[^,]+" do
    local size = tonumber(digits)
    if size >= 2^53 then fail("the shape %s is too large", text) end
    shape[#shape + 1] = size
  end
  if #shape > largest_rank then fail("%d dimensions; at most %d are supported", #shape, largest_rank) end
  local largest = 8
  for _, size in ipairs(shape) do
    count, largest = count * size, largest * math.max(size, 1) -- a tensor without elements has strides too
  end
  if inside:find ",," then fail("the shape %s is not understood", text) end
  if largest >= 2^53 then fail("the shape %s is too large", text) end
  return shape, count
end

local function read_dictionary(text, options)
  local descr, order, shape
  if not text:find "^{.*}%s*$" or text:find "%z" then fail "the header is no dictionary" end
  if text:find "'descr'%s*:%s*[%[{(]" then fail "structured arrays are not supported" end
  descr, text = take(text, "descr", "'[^']*'")
  order, text = take(text, "fortran_order", "%a+")
  shape, text = take(text, "shape", "%([%d%s,]*%)")
  if text:find "[^%s{}]" then fail "the header has more than descr, fortran_order and shape" end
  local byte_order, name = descr:match "^'([<>=|]?)(%a%d+)'$"
  local kind = types[name]
  if not kind then fail("dtype %s is not supported", descr) end
  if kind.is_double and options.f64 ~= "f32" then
    fail 'the dtype is float64, which is not supported; the option f64 = "f32" reads it as f32'
  end
  if order ~= "True" and order ~= "False" then fail("fortran_order must be True or False, got %s", order) end
  local size, entry = tonumber(name:match "%d+"), {dtype = kind.dtype}
  entry.shape, entry.count = read_shape(shape)
  entry.bytes = entry.count * size
  entry.is_double, entry.is_boolean = kind.is_double, kind.is_boolean
  entry.is_swapped, entry.in_columns = byte_order == ">" and size > 1, order == "True" and #entry.shape > 1
  return entry
end

--- What the header of an array says.
-- @param text    text(n), the next n bytes of the file
-- @param bytes   of the file, all in all
-- @param options {f64 = "f32"} to accept double precision
-- @return an entry as elements.read takes it
function npy.read_header(text, bytes, options)
  if bytes < 10 then fail("the file is too short to be a NumPy array: %d bytes", bytes) end
  local magic = text(8)
  if magic:sub(1, 6) ~= "\147NUMPY" then fail "not a NumPy array: it must begin with \\x93NUMPY" end
  local version = magic:byte(7)
  if version < 1 or version > 3 or magic:byte(8) ~= 0 then
    fail("version %d.%d of the format is not known", version, magic:byte(8))
  end
  local width = version == 1 and 2 or 4
  if bytes < 8 + width then fail "the file ends within its header" end
  local low, high, third, fourth = text(width):byte(1, 4)
  local length = low + 256 * high + 65536 * (third or 0) + 16777216 * (fourth or 0)
  if length > largest_header then fail("a header of %.0f bytes is too long", length) end
  if length > bytes - 8 - width then fail "the file ends within its header" end
  local entry = read_dictionary(text(length), options)
  local rest = bytes - 8 - width - length
  if rest ~= entry.bytes then fail("%.0f bytes of elements are needed, the file has %.0f", entry.bytes, rest) end
  return entry
end

--- The tensor of an entry; read(address, bytes) gives its bytes.
function npy.read_elements(read, entry, device)
  if not entry.in_columns then return elements.read(read, entry, device) end
  local shape, backwards, rank = entry.shape, {}, #entry.shape
  local order = {}
  for i = 1, rank do backwards[i], order[i] = shape[rank + 1 - i], rank + 1 - i end
  entry.shape = backwards
  return core.contiguous(core.permute(elements.read(read, entry, device), order))
end

--- Reads a file that is open, of so many bytes.
function npy.read(file, bytes, options)
  local entry = npy.read_header(function(count)
    local text = count > 0 and file:read(count) or ""
    if #text < count then fail "can't read: the file is shorter than it was" end
    return text
  end, bytes, options)
  return npy.read_elements(elements.reader(file), entry, options.device)
end

--- The bytes before the elements of a tensor.
function npy.write_header(tensor)
  local dtype = core.dtype(tensor)
  local name = elements.is_boolean(tensor) and "|b1" or names[dtype]
  if not name then
    fail("NumPy has no %s: write x:float(), or a safetensors file", dtype)
  end
  local shape = core.shape(tensor)
  for i, size in ipairs(shape) do shape[i] = ("%.0f"):format(size) end
  local text = ("{'descr': '%s', 'fortran_order': False, 'shape': (%s%s), }"):format(name, table.concat(shape, ", "),
    #shape == 1 and "," or "")
  text = text .. (" "):rep(-(#text + 11) % 64) .. "\n" -- the elements begin at a multiple of 64
  return "\147NUMPY\1\0" .. string.char(#text % 256, math.floor(#text / 256)) .. text
end

--- A function write(put) of a file of one tensor.
function npy.writer(tensor)
  if not core.is_tensor(tensor) then fail("a tensor expected, got %s", type(tensor)) end
  local header = npy.write_header(tensor)
  return function(put)
    put(header, #header)
    local values = elements.on_cpu(tensor)
    local bytes = core.numel(values) * dtypes[core.dtype(values)].size
    if bytes > 0 then put(core.data(values), bytes) end
  end
end

return npy

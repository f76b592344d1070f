--- fp8.from_data: a tensor over memory of FFI code, without a copy.
local ffi = require "ffi"
local core = require "fp8.core"
local dtypes = core.dtypes

local raise = core.raise

-- The types of elements that may hold any dtype.
local untyped = {["void"] = true, ["char"] = true, ["unsigned char"] = true, ["signed char"] = true}

-- How FFI calls the elements of a dtype, as x:data() has them.
local elements = {f32 = "float", f16 = "unsigned short", bf16 = "unsigned short", i32 = "int", i64 = "int64_t"}

local function check_shape(shape)
  if type(shape) ~= "table" then raise("from_data: shape must be a table of sizes, got " .. type(shape)) end
end

-- What an element of cdata is called, and how many bytes there are if that is known; an error for what is no memory.
local function describe(data)
  if type(data) ~= "cdata" then raise("from_data: cdata of an array or a pointer expected, got " .. type(data)) end
  local name = tostring(ffi.typeof(data)):match "^ctype<(.*)>$"
  local array = name:match "^([^%[]-) ?%[[%[%]%d?]*$" -- "float (&)" of one in a struct
  local element = array and array:gsub(" %(&%)$", "") or name:match "^([^%[(]-) ?%*$"
  if not element then raise(("from_data: an array or a pointer expected, got %s"):format(name)) end
  if element:find "%f[%w]const%f[%W]" then
    raise(("from_data: %s can't be written to, and tensors can: cast it if its memory may change"):format(name))
  end
  return element, array and ffi.sizeof(data) or nil, name
end

local function bytes_of(shape, dtype)
  local bytes = dtypes[dtype].size
  for _, size in ipairs(shape) do bytes = bytes * (tonumber(size) or 0) end
  return bytes
end

--- fp8.from_data(cdata, shape, dtype [, owner]): a tensor on the CPU over memory that is there already. What is written
-- through either is seen through the other. An array of FFI (`ffi.new`) is kept alive by the tensor and its views,
-- and its size is checked; of one in a struct, the struct has to be the owner. Memory behind a pointer is the
-- script's affair: it has to have as many elements, and to stay valid until nothing refers to the tensor and its
-- views any more. `owner` is any Lua value that is kept alive until then, such as a cdata with a finalizer of
-- `ffi.gc` that frees the memory. Autograd does not see what is written through the cdata, as with x:data().
-- @param cdata an array or a pointer to the elements, as x:data() gives them: float, uint16_t (f16 and bf16), uint8_t,
--   int32_t, int64_t; or bytes (void, char, uint8_t) for any dtype
-- @param shape list of sizes
-- @param dtype of the elements
--   local numbers = require "ffi".new("float[6]", 1, 2, 3, 4, 5, 6)
--   fp8.from_data(numbers, {2, 3}, "f32") --> {{1, 2, 3}, {4, 5, 6}}
return function(data, shape, dtype, owner)
  local element, bytes, name = describe(data)
  check_shape(shape)
  if not dtypes[dtype] then
    local called = type(dtype) == "string" and core.dtype_called(dtype)
    raise(("from_data: dtype expected, got %s%s"):format(tostring(dtype),
      called and (", which is called %s here"):format(called) or ""))
  end
  if not untyped[element] and element ~= elements[dtype] then
    raise(("from_data: %s does not hold elements of %s"):format(name, dtype))
  end
  if bytes and bytes_of(shape, dtype) > bytes then
    raise(("from_data: %s has %d bytes, a tensor of shape (%s) and dtype %s needs %.0f"):format(name, bytes,
      table.concat(shape, ", "), dtype, bytes_of(shape, dtype)))
  end
  return core.from_data(ffi.cast("void *", data), shape, dtype, {data, owner})
end

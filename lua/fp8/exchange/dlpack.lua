--- Tensors from and for other libraries, by DLPack (https://dmlc.github.io/dlpack): PyTorch, JAX, CuPy, TVM and others
-- have its struct DLManagedTensor, which describes memory without copying it.
local ffi = require "ffi"
local core = require "fp8.core"
local dtypes = core.dtypes

local raise = core.raise

-- Unless a script has declared dlpack.h already.
if not pcall(ffi.typeof, "DLManagedTensor") then
  ffi.cdef [[
  typedef struct { int32_t device_type, device_id; } DLDevice;
  typedef struct { uint8_t code, bits; uint16_t lanes; } DLDataType;
  typedef struct {
    void *data;
    DLDevice device;
    int32_t ndim;
    DLDataType dtype;
    int64_t *shape, *strides;
    uint64_t byte_offset;
  } DLTensor;
  typedef struct DLManagedTensor {
    DLTensor dl_tensor;
    void *manager_ctx;
    void (*deleter)(struct DLManagedTensor *self);
  } DLManagedTensor;
  ]]
end

local managed_pointer = ffi.typeof "DLManagedTensor *"

-- DLPack's numbers.
local codes = {f32 = 2, f16 = 2, bf16 = 4, e4m3 = 10, e5m2 = 12, u8 = 1, i32 = 0, i64 = 0}
local cpu, cuda = 1, 2
local largest_rank = 8

local names = {["6 8"] = "u8"} -- by code and bits; booleans are u8
for name, dtype in next, dtypes do names[("%d %d"):format(codes[name], 8 * dtype.size)] = name end

local dlpack = {}

--- fp8.to_dlpack(x), x:to_dlpack(): x for another library, without a copy: a cdata `DLManagedTensor *`. Whoever takes
-- it calls its deleter once, in the thread that uses this Lua state; until then the memory stays, whatever becomes of
-- x and of the Lua state. Where nobody takes it, call `m.deleter(m)`. What is written through it, autograd does not
-- see. On a GPU, x has been computed when this returns. All dtypes have a number in DLPack.
-- @return the pointer; its address for a library that wants a number is `tonumber(ffi.cast("intptr_t", m))`
--   local m = fp8.ones(2, 3):to_dlpack()
--   m.dl_tensor.ndim --> 2
--   m.deleter(m) --> nil
function dlpack.to_dlpack(x)
  local dtype, device = core.dtype(x), core.device(x)
  if core.requires_grad(x) then raise "to_dlpack: the tensor requires a gradient; use x:detach()" end
  local index = device:match "^cuda:?(%d*)$"
  if index then core.synchronize(device) end
  local m = managed_pointer()
  core.to_dlpack(x, index and cuda or cpu, tonumber(index) or 0, codes[dtype], m)
  return m
end

local function list_of(numbers, count)
  local list = {}
  for i = 1, count do
    list[i] = tonumber(numbers[i - 1])
    if math.abs(list[i]) > 2^53 then raise "from_dlpack: sizes and strides beyond 2^53 are not supported" end
  end
  return list
end

local function device_of(device)
  if device.device_type == cpu then return "cpu" end
  if device.device_type == cuda then return ("cuda:%d"):format(device.device_id) end
  raise(("from_dlpack: device type %d of DLPack is not supported; 1 (CPU) and 2 (CUDA) are"):format(device.device_type))
end

--- fp8.from_dlpack(m): a tensor over the memory of another library's tensor, without a copy: m is a cdata
-- `DLManagedTensor *`. The tensor takes m over: its deleter is called, once, when nothing refers to the tensor and its
-- views any more, so m may be given to nobody else. An error leaves m to the caller. Strides may be any that are not
-- negative; a boolean tensor is u8. On a GPU, what computes its values has to be done. Nothing of m can be checked but
-- its numbers: a wrong address is one.
--   local x = fp8.arange(3)
--   local y = fp8.from_dlpack(x:to_dlpack())
--   y[1]:fill_(5)
--   x --> {5, 1, 2}
function dlpack.from_dlpack(m)
  if type(m) ~= "cdata" or not ffi.istype(managed_pointer, m) then
    raise(("from_dlpack: cdata of DLManagedTensor * expected, got %s"):format(
      type(m) == "cdata" and tostring(ffi.typeof(m)):match "<(.*)>" or type(m)))
  end
  if m == nil then raise "from_dlpack: the pointer is NULL" end
  local tensor = m.dl_tensor
  local rank, kind = tensor.ndim, tensor.dtype
  if rank < 0 or rank > largest_rank then
    raise(("from_dlpack: %d dimensions; at most %d are supported"):format(rank, largest_rank))
  end
  local dtype = kind.lanes == 1 and names[("%d %d"):format(kind.code, kind.bits)]
  if not dtype then
    raise(("from_dlpack: elements of code %d, %d bits and %d lanes are not supported"):format(kind.code, kind.bits,
      kind.lanes))
  end
  if rank > 0 and tensor.shape == nil then raise "from_dlpack: the tensor has no shape" end
  local device = device_of(tensor.device)
  local strides = tensor.strides ~= nil and list_of(tensor.strides, rank) or nil
  return core.from_dlpack(ffi.cast("void *", m), list_of(tensor.shape, rank), strides, dtype, device)
end

return dlpack

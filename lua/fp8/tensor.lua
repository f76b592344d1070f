--- What a tensor can do from Lua: its methods, properties and operators.
local ffi = require "ffi"
local core = require "fp8.core"
local check = require "fp8.ops.check"
local autograd = require "fp8.autograd"
local dtypes = require("fp8.core").dtypes
local elementwise = require "fp8.ops.elementwise"
local later = require "fp8.later"
local public = require "fp8.public"
local slices = require "fp8.ops.index.slices"

local raise = core.raise

local methods = {}
for name, operation in next, require("fp8.ops").methods do methods[name] = operation end

local own = {}

-- fp8.where takes the condition first.
function own.where(x, condition, other) return elementwise.where(condition, x, other) end

-- Their doc comments are in help/functions_in_c.lua, as those of item and totable.
own.numel = core.numel
own.dim = core.rank
own.is_contiguous = core.is_contiguous

own.item = core.item
own.totable = core.totable
methods.backward = public.plain("backward", require "fp8.autograd.backward")

--- x:requires_grad_([flag = true]): has x get gradients from now on, as the option requires_grad does, and returns x.
--   fp8.zeros(2):requires_grad_().requires_grad --> true
own.requires_grad_ = autograd.set_requires_grad

--- x:retain_grad(): keeps the gradient of a result of operations in its field grad, as those of leaves are.
--   local x = fp8.tensor({3}, {requires_grad = true})
--   local y = x * 2
--   y:retain_grad();
--   (y * y):sum():backward()
--   y.grad --> {12}
own.retain_grad = autograd.retain_grad

--- x:size() is a list of sizes, x:size(dim) a number.
--   fp8.zeros(2, 3):size() --> {2, 3}
--   fp8.zeros(2, 3):size(-1) --> 3
function own.size(x, dimension)
  if dimension == nil then return core.shape(x) end
  return core.size(x, dimension)
end

--- x:stride() is a list of strides, in elements, x:stride(dim) a number.
--   fp8.zeros(2, 3):stride() --> {3, 1}
--   fp8.zeros(2, 3):stride(-1) --> 1
function own.stride(x, dimension)
  local strides = core.stride(x)
  if dimension == nil then return strides end
  return strides[check.dimension("stride", x, dimension)]
end

local element_pointers = {}
for name, dtype in pairs(dtypes) do
  local element = name == "f32" and "float" or ("%sint%d_t"):format(name:find "^i" and "" or "u", 8 * dtype.size)
  element_pointers[name] = ffi.typeof(element .. " *")
end

--- x:data(): an FFI pointer to the elements of a contiguous tensor on the CPU: float *, uint16_t * (the bits of f16 and
-- bf16), uint8_t * (e4m3, e5m2, u8), int32_t * or int64_t *. Counts from 0, is not checked, and is valid as long as the
-- tensor is referenced. Autograd does not see what is written through it. A layer whose weight has been pointed to
-- quantizes it anew in every call; one whose recipe's map is written to this way has to be told by fp8.convert.
-- Don't read an f32 NaN through it that comes from a file or from bits of your own (look at those as uint32_t * first):
-- LuaJIT takes some NaNs for nil or for an address.
--   local x = fp8.zeros(3)
--   x:data()[1] = 5
--   x --> {0, 5, 0}
function own.data(x)
  local pointer = ffi.cast(element_pointers[core.dtype(x)], core.data(x))
  core.expose(x)
  return pointer
end

-- Loaded when it is first used.
function own.to_dlpack(x) return later "fp8.exchange.dlpack".to_dlpack(x) end

local counts = {numel = 1, dim = 1, is_contiguous = 1, item = 1, totable = 1}
for name, method in next, own do methods[name] = public.operation(name, method, counts[name], true) end

local properties = {
  dtype = core.dtype,
  device = core.device,
  shape = core.shape,
  grad = autograd.whole_grad,
  requires_grad = core.requires_grad,
  is_leaf = autograd.is_leaf,
}

local metatable = core.metatable
core.metatable = nil -- its __gc, called on a tensor that is in use, would free it

function metatable.__index(x, key)
  local method = methods[key]
  if method then return method end
  local property = properties[key]
  if property then return property(x) end
  if type(key) == "number" or type(key) == "table" or core.is_tensor(key) then return slices.read(x, key) end
  raise(("tensor: no field or method '%s'%s"):format(tostring(key),
    later("fp8.nearest").hint(key, methods, properties)))
end

function metatable.__newindex(x, key, value)
  if key == "grad" then
    autograd.set_grad(x, value)
  elseif key == "requires_grad" then
    autograd.set_requires_grad(x, value)
  elseif type(key) == "number" or type(key) == "table" or core.is_tensor(key) then
    slices.write(x, key, value)
  else
    raise(("tensor: field '%s' can't be set"):format(tostring(key)))
  end
end

metatable.properties = properties -- their names are there for the prompt

metatable.__add, metatable.__sub = elementwise.add, elementwise.sub
metatable.__mul, metatable.__div = elementwise.mul, elementwise.div
metatable.__pow, metatable.__mod = elementwise.pow, elementwise.remainder
function metatable.__unm(x) return elementwise.neg(x) end
function metatable.__len(x) return core.size(x, 1) end

-- Lua turns the result of < into true or false, so that these could not give a tensor.
function metatable.__lt() raise("tensors are compared element by element with :lt() and :gt(), not with < and >") end
function metatable.__le() raise("tensors are compared element by element with :le() and :ge(), not with <= and >=") end

function metatable.__tostring(x) return later "fp8.printing"(x) end

-- A tensor without dimensions is its number in a text.
local function text_of(x)
  if core.is_tensor(x) and core.rank(x) == 0 then return later "fp8.printing.number".element(x) end
  return tostring(x)
end

function metatable.__concat(a, b) return text_of(a) .. text_of(b) end

return methods

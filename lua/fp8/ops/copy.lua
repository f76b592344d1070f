--- Copies: converted to another dtype, on another device, without gaps, or into a tensor that exists.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local computable = require "fp8.computable"
local in_place = require "fp8.ops.in_place"

local needs_grad, record = autograd.needs_grad, autograd.record

local copy = {}

local conversion = {
  name = "to",
  backward = function(node, grad) return core.to(grad, node.origin) end,
}

local function convert(x, options)
  local y = core.to(x, options)
  if y ~= x and needs_grad(x) and computable[core.dtype(y)] then
    record(y, conversion, {x}).origin = {dtype = core.dtype(x), device = core.device(x)}
  end
  return y
end

-- Other libraries' names of dtypes count as dtypes, whose error says what they are called here.
local function kind_of(name)
  if core.dtype_called(name) then return "dtype" end
  local base = type(name) == "string" and name:match "^[^:]*"
  if not base or base == "cpu" or base == "cuda" then return "device" end
  local ok, message = pcall(core.memory, name)
  if not ok and tostring(message):find("unknown device", 1, true) then
    core.raise(("to: '%.40s' is no dtype (f32 f16 bf16 e4m3 e5m2 u8 i32 i64) and no device (cpu, cuda, cuda:N)"):format(
      name))
  end
  return "device"
end

--- The options table of the arguments of x:to and module:to: ("f16"), ("cuda"), ("cuda", "f16") or a table of options.
function copy.to_options(first, second)
  if type(first) == "table" then return first end
  if type(first) ~= "string" then
    core.raise("to: a dtype, a device or a table of options is needed, got " .. type(first))
  end
  local options = {[kind_of(first)] = first}
  if second ~= nil then options[kind_of(second)] = second end
  return options
end

--- x:to("f16"), x:to("cuda"), x:to("cuda", "f16") or x:to{dtype =, device =, saturate =}: converted and moved; x itself
-- if nothing changes. Casts to float8 saturate unless saturate = false. Gradients pass between f32, f16 and bf16, and
-- between devices.
--   fp8.tensor({1.5, -2}):to("i32") --> {1, -2}
function copy.to(x, first, second) return convert(x, copy.to_options(first, second)) end

--- x:float(), x:half(), x:bfloat16(): x as f32, f16, bf16.
--   fp8.tensor({1}):float().dtype --> "f32"
--   fp8.tensor({1}):half().dtype --> "f16"
--   fp8.tensor({1}):bfloat16().dtype --> "bf16"
function copy.float(x) return convert(x, {dtype = "f32"}) end
function copy.half(x) return convert(x, {dtype = "f16"}) end
function copy.bfloat16(x) return convert(x, {dtype = "bf16"}) end

--- x:cpu(), x:cuda([index]): x on the CPU, on a GPU (index from 0, the first one if left out).
--   fp8.tensor({1}):cpu().device --> "cpu"
function copy.cpu(x) return convert(x, {device = "cpu"}) end
function copy.cuda(x, index)
  if index == nil then return convert(x, {device = "cuda"}) end
  if type(index) ~= "number" then core.raise("cuda: index must be a number, got " .. type(index)) end
  return convert(x, {device = "cuda:" .. index})
end

local copying = {name = "copy", shares = true, backward = function(_, grad) return grad end}

local function copied(y, x)
  if y ~= x and needs_grad(x) then record(y, copying, {x}) end
  return y
end

--- x:contiguous(): the same elements in row-major order without gaps; x itself if they are.
--   fp8.tensor({{1, 2}, {3, 4}}):t():contiguous():is_contiguous() --> true
function copy.contiguous(x) return copied(core.contiguous(x), x) end

--- x:clone(): a copy, through which gradients pass.
--   fp8.tensor({1, 2}):clone():fill_(0) --> {0, 0}
function copy.clone(x) return copied(core.clone(x), x) end

--- x:copy_(source): the elements of a tensor of any dtype and device that broadcasts to x.
--   fp8.zeros(2, 2):copy_(fp8.tensor {1, 2}) --> {{1, 2}, {1, 2}}
copy.copy_ = in_place "copy_"

--- x:fill_(number)
--   fp8.zeros(2):fill_(3) --> {3, 3}
copy.fill_ = in_place "fill_"

--- x:zero_()
--   fp8.ones(2):zero_() --> {0, 0}
copy.zero_ = in_place "zero_"

return copy

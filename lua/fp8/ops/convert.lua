--- Conversion between dtypes and devices.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local computable = require "fp8.computable"
local conversion_options = require "fp8.conversion"

local needs_grad, record = autograd.needs_grad, autograd.record

local conversion = {}

local operation = {
  name = "to",
  backward = function(node, grad) return core.to(grad, node.origin) end,
}

local function convert(x, options)
  local y = core.to(x, options)
  if y ~= x and needs_grad(x) and computable[core.dtype(y)] then
    record(y, operation, {x}).origin = {dtype = core.dtype(x), device = core.device(x)}
  end
  return y
end

--- x:to("f16"), x:to("cuda"), x:to("cuda", "f16") or x:to{dtype =, device =, saturate =}: converted and moved; x itself
-- if nothing changes. Casts to float8 saturate unless saturate = false. Gradients pass between f32, f16 and bf16, and
-- between devices.
function conversion.to(x, first, second) return convert(x, conversion_options(first, second)) end

--- x:float(), x:half(), x:bfloat16(): x as f32, f16, bf16.
function conversion.float(x) return convert(x, {dtype = "f32"}) end
function conversion.half(x) return convert(x, {dtype = "f16"}) end
function conversion.bfloat16(x) return convert(x, {dtype = "bf16"}) end

--- x:cpu(), x:cuda([index]): x on the CPU, on a GPU (index from 0, the first one if left out).
function conversion.cpu(x) return convert(x, {device = "cpu"}) end
function conversion.cuda(x, index)
  if index == nil then return convert(x, {device = "cuda"}) end
  if type(index) ~= "number" then core.raise("cuda: index must be a number, got " .. type(index)) end
  return convert(x, {device = "cuda:" .. index})
end

return conversion

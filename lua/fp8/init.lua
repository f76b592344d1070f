--- fp8: 8-bit floating-point training. Tensors on the CPU and on CUDA devices, number formats as data, and linear
-- layers that compute in them.
if not rawget(_G, "jit") then
  error("fp8 needs LuaJIT: " .. _VERSION .. " has no FFI. Run the script with luajit (apt-get install luajit)", 0)
end
local ffi = require "ffi"

-- OpenMP's threads spin for milliseconds while they wait for work, which on a machine that others use too takes the
-- processors from those who have some: small operations were fifty times slower beside another busy process. A short
-- spin loses nothing on an idle one. OpenMP reads this once, when fp8.core loads it.
ffi.cdef "int setenv(const char *name, const char *value, int overwrite);"
if not os.getenv "OMP_WAIT_POLICY" then ffi.C.setenv("GOMP_SPINCOUNT", "1000", 0) end

local core = require "fp8.core"

-- Errors point at the code that called fp8, so the core has to know which code is fp8's own.
core.set_source_prefix(debug.getinfo(1, "S").source:match("^(.*[/\\])") or "@fp8/")

local attention = require "fp8.ops.attention"
local autograd = require "fp8.autograd"
local formats = require "fp8.linear.formats"
local later = require "fp8.later"
local linear_cross_entropy = require "fp8.linear.cross_entropy"
local linear_matmul = require "fp8.linear.matmul"
local public = require "fp8.public"
local quantize = require "fp8.ops.quantize"
require "fp8.tensor"

local fp8 = {
  version = "0.1.0", _VERSION = "fp8 0.1.0",

  -- What is written in C has its doc comments in help/functions_in_c.lua.
  tensor = core.tensor, zeros = core.zeros, ones = core.ones, full = core.full, empty = core.empty,
  arange = core.arange, rand = core.rand, randn = core.randn, randint = core.randint,
  manual_seed = core.manual_seed, random_state = core.random_state,
  set_default_device = core.set_default_device, set_default_dtype = core.set_default_dtype,
  set_deterministic = core.set_deterministic, is_deterministic = core.is_deterministic,
  is_tensor = core.is_tensor,

  cross_entropy = require "fp8.ops.cross_entropy",
  linear_cross_entropy = linear_cross_entropy.linear_cross_entropy,
  dropout = require "fp8.ops.dropout", embedding = require("fp8.ops.embedding").embedding,
  attention = attention.attention, self_attention = attention.self_attention,
  alibi_slopes = require "fp8.ops.attention.alibi_slopes",
  rotary_embedding = require "fp8.ops.attention.rotary_embedding",

  -- Formats and quantize.
  create_map = core.create_map, create_dynamic_map = core.create_dynamic_map,
  create_linear_map = core.create_linear_map, create_float_map = formats.create_float_map,
  formats = formats.formats, code_bits = formats.code_bits, hadamard = quantize.hadamard,
  quantize_blockwise = quantize.quantize_blockwise, dequantize_blockwise = quantize.dequantize_blockwise,
  quantize = quantize.quantize, dequantize = quantize.dequantize,
  matmul_mixed = linear_matmul.matmul_mixed, matmul_global = linear_matmul.matmul_global,
  recipes = require "fp8.linear.recipes", recipe = require "fp8.linear.recipe",

  --- fp8.no_grad(f, …): what f(…) returns, without recording any operation for a backward pass.
  --   local x = fp8.ones(2, {requires_grad = true})
  --   fp8.no_grad(function() return x * 2 end).requires_grad --> false
  no_grad = autograd.no_grad,
  Function = require "fp8.autograd.function",
  scope = require "fp8.scope",
  recompute = require "fp8.recompute",
  cuda = require "fp8.cuda",
  memory = core.memory, reset_peak_memory = core.reset_peak_memory,
  event = require "fp8.event",
}

-- How many arguments those in C take that don't check it themselves, being called with sizes or names.
local counts = {
  create_map = 4, create_dynamic_map = 3, create_linear_map = 2, is_tensor = 1, set_default_dtype = 1,
  set_default_device = 1, set_deterministic = 1, is_deterministic = 0, memory = 1, reset_peak_memory = 1,
}
for name, value in next, fp8 do
  if type(value) == "function" then fp8[name] = public.plain(name, value, counts[name]) end
end

-- Both fp8.exp(x) and x:exp() are there; fp8.cuda is what is above.
for name, operation in next, require("fp8.ops").functions do
  if fp8[name] == nil then fp8[name] = operation end
end

--- Libraries of functions and classes.
--   type(fp8.nn) --> "table"
--   type(fp8.data) --> "table"
--   type(fp8.checkpoint) --> "table"

-- Loaded when first used: by field, a module, and the field in it if not the module itself.
local places = {
  nn = {"fp8.nn"}, optim = {"fp8.optim"}, data = {"fp8.data"}, distributed = {"fp8.distributed"},
  Linear = {"fp8.nn", "Linear"}, LinearMixed = {"fp8.nn", "LinearMixed"}, LinearGlobal = {"fp8.nn", "LinearGlobal"},
  convert = {"fp8.nn.convert"}, analyze = {"fp8.watch.analyze"}, watch = {"fp8.watch"},
  sensitivity = {"fp8.watch.sensitivity"},
  memory_report = {"fp8.memory_report"}, gradcheck = {"fp8.autograd.gradcheck"},
  load = {"fp8.files", "load"}, save = {"fp8.files", "save"}, checkpoint = {"fp8.files.checkpoint"},
  from_data = {"fp8.exchange.from_data"},
  from_dlpack = {"fp8.exchange.dlpack", "from_dlpack"}, to_dlpack = {"fp8.exchange.dlpack", "to_dlpack"},
  info = {"fp8.help.info"}, help = {"fp8.help"}, plot = {"fp8.plot"},
  text = {"fp8.printing.value"}, set_print_options = {"fp8.printing.options", "set"},
}

return setmetatable(fp8, {
  later = places,
  __tostring = function() return later "fp8.help".contents "fp8." end,
  __index = function(_, name)
    local place = places[name]
    if not place then return later "fp8.near_miss"("fp8", name, fp8, places) end
    local value = later(place[1])
    if place[2] then value = value[place[2]] end
    if type(value) == "function" then value = public.plain(name, value) end
    rawset(fp8, name, value)
    return value
  end,
})

--- fp8: 8-bit floating-point training. Tensors on the CPU and on CUDA devices, number formats as data, and linear
-- layers that compute in them.
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
local later = require "fp8.later"
local linear_cross_entropy = require "fp8.linear.cross_entropy"
local linear_matmul = require "fp8.linear.matmul"
local quantize = require "fp8.ops.quantize"
require "fp8.tensor"

local fp8 = {
  version = "0.1.0", _VERSION = "fp8 0.1.0",

  --- Creation: sizes, as numbers or a table, or for fp8.tensor nested tables of numbers; then the options {dtype =,
  -- device =, requires_grad =}. fp8.full and fp8.randint take their sizes as a table, and beside it the value, or the
  -- bounds of integers in [low, high). fp8.rand is uniform in [0, 1), fp8.randn standard normal.
  --   fp8.tensor({{1, 2}, {3, 4}}, {dtype = "i32"}) --> {{1, 2}, {3, 4}}
  --   fp8.zeros(2, 3) --> {{0, 0, 0}, {0, 0, 0}}
  --   fp8.ones({2}, {dtype = "bf16"}).dtype --> "bf16"
  --   fp8.full({2}, 7) --> {7, 7}
  --   fp8.empty(2, 3).shape --> {2, 3}
  --   fp8.arange(2, 8, 3) --> {2, 5}
  --   fp8.rand(2, 3).shape --> {2, 3}
  --   fp8.randn({2, 3}, {requires_grad = true}).requires_grad --> true
  --   fp8.randint(0, 10, {4}).dtype --> "i64"
  tensor = core.tensor, zeros = core.zeros, ones = core.ones, full = core.full, empty = core.empty,
  arange = core.arange, rand = core.rand, randn = core.randn, randint = core.randint,
  --- fp8.manual_seed(seed [, position]) starts the random numbers of all devices anew; fp8.random_state() gives the
  -- seed and the position that have the same numbers follow again.
  --   fp8.manual_seed(3)
  --   local x, seed, position = fp8.rand(2), fp8.random_state()
  --   local y = fp8.rand(2)
  --   fp8.manual_seed(seed, position)
  --   fp8.rand(2):equal(y) --> true
  manual_seed = core.manual_seed, random_state = core.random_state,
  --- What is made without these options has them; at first they are "cpu" and "f32".
  --   fp8.set_default_dtype "f16"
  --   fp8.zeros(2).dtype --> "f16"
  --   fp8.set_default_device "cpu"
  --   fp8.zeros(2).device --> "cpu"
  set_default_device = core.set_default_device, set_default_dtype = core.set_default_dtype,
  --- fp8.set_deterministic(true): the same bits in every run and with any number of threads, of products too: README.md
  -- says what may differ otherwise.
  --   fp8.set_deterministic(true)
  --   fp8.is_deterministic() --> true
  set_deterministic = core.set_deterministic, is_deterministic = core.is_deterministic,
  --- Whether a value is a tensor.
  --   fp8.is_tensor(fp8.zeros(1)) --> true
  --   fp8.is_tensor {1} --> false
  is_tensor = core.is_tensor,

  cross_entropy = require "fp8.ops.cross_entropy",
  linear_cross_entropy = linear_cross_entropy.linear_cross_entropy,
  dropout = require "fp8.ops.dropout", embedding = require "fp8.ops.embedding",
  attention = attention.attention, self_attention = attention.self_attention,

  --- Formats: 256 ascending f32 values of which the largest is 1. fp8.create_map(signed = true, exponent_bits = 5,
  -- precision_bits = 2, total_bits = 8), fp8.create_dynamic_map(signed = true, max_exponent_bits = 7, total_bits = 8)
  -- of "8-bit approximations for parallelism in deep learning" (Dettmers, 2016), fp8.create_linear_map(signed = true,
  -- total_bits = 8), of equal steps.
  --   fp8.create_map(true, 4, 3, 8).shape --> {256}
  --   fp8.create_dynamic_map():max():item() --> 1
  --   fp8.create_linear_map(false):min():item() --> 0
  create_map = core.create_map, create_dynamic_map = core.create_dynamic_map,
  create_linear_map = core.create_linear_map,
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
  --- fp8.memory(device) and fp8.reset_peak_memory(device), in bytes, as in fp8.cuda but for any device, "cpu" included.
  --   local x = fp8.zeros(1000)
  --   fp8.memory("cpu").in_use >= 4000 --> true
  --   fp8.reset_peak_memory("cpu") --> nil
  memory = core.memory, reset_peak_memory = core.reset_peak_memory,
  event = require "fp8.event",
}

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
  nn = {"fp8.nn"}, optim = {"fp8.optim"}, data = {"fp8.data"},
  Linear = {"fp8.nn", "Linear"}, LinearMixed = {"fp8.nn", "LinearMixed"}, LinearGlobal = {"fp8.nn", "LinearGlobal"},
  convert = {"fp8.nn.convert"}, analyze = {"fp8.watch.analyze"}, watch = {"fp8.watch"},
  memory_report = {"fp8.memory_report"}, gradcheck = {"fp8.autograd.gradcheck"},
  load = {"fp8.files", "load"}, save = {"fp8.files", "save"}, checkpoint = {"fp8.files.checkpoint"},
  help = {"fp8.help"}, plot = {"fp8.plot"},
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
    rawset(fp8, name, value)
    return value
  end,
})

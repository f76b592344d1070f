--- What fp8.set_deterministic(true) costs: operations that depend on it, and the step of a transformer's block, without
-- and with it. Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "?.lua;" .. package.path

local fp8 = require "fp8"
local core = require "fp8.core"
local added_up = require "fp8.ops.index.added_up"
local measure = require "measure"

local usage = [[
usage: luajit examples/bench/deterministic.lua [options]
  --device NAME   cpu, cuda, cuda:1, … (default: cuda where it works, else cpu)
  --dtype LIST    f32, f16, bf16 (default f32,bf16)
  --width N       of the block, and of the products (default 768, on the CPU 384)
  --batch N       sequences of --context positions (default 32, on the CPU 4)
  --context N     positions (default 1024, on the CPU 128)
  --rounds N      how often each is measured without and with, in turns; the fastest counts (default 5)
  --steps N       samples of a measurement, whose median counts (default 20)
  --help          this text

Each line: microseconds without and with, and their ratio.
]]

local function compare(name, options, call)
  local fastest = {math.huge, math.huge}
  for _ = 1, options.rounds do
    for i, on in ipairs {false, true} do
      fp8.set_deterministic(on)
      fastest[i] = math.min(fastest[i], measure.time(call, options))
    end
  end
  fp8.set_deterministic(false)
  local padded = name .. (" "):rep(44 - #name:gsub("[\128-\191]", "")) -- by characters, not bytes
  print(("%s %10.1f %10.1f %6.2f"):format(padded, fastest[1], fastest[2], fastest[2] / fastest[1]))
end

local function compare_products(dtype, options)
  local place = {dtype = dtype, device = options.device}
  local rows, width = options.batch * options.context, options.width
  local function product(name, m, k, n, transposed)
    local a = transposed and core.t(core.randn({k, m}, place)) or core.randn({m, k}, place)
    local b = core.randn({k, n}, place)
    compare(("%s, (%d, %d) by (%d, %d)"):format(name, m, k, k, n), options, function()
      measure.free(core.matmul(a, b))
    end)
    measure.free(a, b)
  end
  product("small product", 64, 64, 64)
  product("product", 512, 512, 512)
  product("one row", 1, 4 * width, 4 * width)
  product("output of a layer", rows, width, 4 * width)
  product("gradient of a weight", width, rows, 4 * width, true)
  local heads, features = options.batch * width / 64, 64
  local q = core.randn({heads, options.context, features}, place)
  local k = core.randn({heads, features, options.context}, place)
  compare(("%d products of %d × %d scores"):format(heads, options.context, options.context), options, function()
    measure.free(core.matmul(q, k))
  end)
  measure.free(q, k)
end

-- The derivative of picking one of `width` values in each of as many rows as the block has positions; and ten thousand
-- values that are added to ten.
local function compare_sums(dtype, options)
  local place = {dtype = dtype, device = options.device}
  local rows = options.batch * options.context
  for _, case in ipairs {{rows, 1, options.width}, {1, 10000, 10}} do
    local outer, picks, length = unpack(case)
    local index = core.randint(0, length, {outer, picks}, {device = options.device, dtype = "i64"})
    local dy = core.randn({outer, picks}, place)
    compare(("gather's gradient, %d × %d values"):format(outer, picks), options, function()
      measure.free(added_up({outer, length}, 2, index, dy))
    end)
    measure.free(index, dy)
  end
end

local function compare_blocks(dtype, options)
  local width = options.width
  local block = fp8.nn.TransformerBlock(width, width / 64, {causal = true}):to(options.device):to(dtype)
  local x = fp8.randn(options.batch, options.context, width, {dtype = dtype, device = options.device})
  compare("step of a block", options, function()
    fp8.scope(function()
      for _, parameter in ipairs(block:parameters()) do parameter.grad = nil end
      block(x):sum():backward()
    end)
  end)
end

measure.main(function()
  local whole = measure.whole
  local options = measure.options(usage, {
    device = tostring, dtype = measure.names {f32 = true, f16 = true, bf16 = true}, width = whole, batch = whole,
    context = whole, rounds = whole, steps = whole,
  }, {dtype = {"f32", "bf16"}, rounds = 5, steps = 20})
  options.device = options.device or measure.default_device()
  local on_cpu = options.device == "cpu"
  options.width = options.width or (on_cpu and 384 or 768)
  options.batch = options.batch or (on_cpu and 4 or 32)
  options.context = options.context or (on_cpu and 128 or 1024)
  options.samples, options.seconds = options.steps, on_cpu and 0.15 or 1
  print(("%s; µs without and with fp8.set_deterministic(true)"):format(measure.device_name(options.device)))
  fp8.manual_seed(1)
  for _, dtype in ipairs(options.dtype) do
    print("\n" .. dtype)
    compare_products(dtype, options)
    compare_sums(dtype, options)
    compare_blocks(dtype, options)
  end
end)

--- Causal attention, forward and both passes, beside what its products count. Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "?.lua;" .. package.path

local fp8 = require "fp8"
local core = require "fp8.core"
local measure = require "measure"

local usage = [[
usage: luajit examples/bench/attention.lua [options]
  --shapes LIST   batch,heads,tokens,features;… (default 32,12,1024,64;8,16,2048,128;4,16,4096,128;
                  on the CPU 1,4,128,64)
  --device NAME   cpu, cuda, cuda:1, … (default: cuda where it works, else cpu)
  --dtype LIST    f32, f16, bf16 (default bf16)
  --full          without the causal mask
  --errors        ‖error‖ / ‖result‖ of y, dq, dk and dv against float32 in place of times, of inputs randn × 1, 2, 4, 8
  --sustained     without a rest before every sample
  --steps N       samples of a measurement, whose median is printed (default 50)
  --help          this text

TFLOP/s: of two products forward and five backward with the scores that a query sees.
]]

local dtypes = {f32 = true, f16 = true, bf16 = true}
local default_shapes = {cpu = "1,4,128,64", cuda = "32,12,1024,64;8,16,2048,128;4,16,4096,128"}

local function read_shapes(text)
  local shapes = {}
  for part in text:gmatch "[^;]+" do
    local shape = {part:match "^(%d+),(%d+),(%d+),(%d+)$"}
    if #shape ~= 4 then return nil end
    for i = 1, 4 do shape[i] = tonumber(shape[i]) end
    shapes[#shapes + 1] = shape
  end
  return #shapes > 0 and shapes or nil
end

local function bench(shape, dtype, options)
  local batch, heads, tokens, features = unpack(shape)
  local place = {dtype = dtype, device = options.device}
  -- As a layer makes them: the heads of a token side by side.
  local function random() return fp8.randn(batch, tokens, heads, features, place):transpose(2, 3) end
  local q, k, v, dy = random(), random(), random(), random()
  local settings = {causal = not options.full}
  local function forward() return fp8.attention(q, k, v, settings) end
  local first = measure.time(function() core.free(forward()) end, options)
  for _, x in ipairs {q, k, v} do x:requires_grad_() end
  local both = measure.time(function()
    q.grad, k.grad, v.grad = nil, nil, nil
    forward():backward(dy)
  end, options)
  local seen = options.full and tokens or (tokens + 1) / 2
  local product = 2 * batch * heads * tokens * seen * features
  print(("%-22s %-5s %11.1f %11.1f %11.1f %9.3g %9.3g"):format(table.concat(shape, ", "), dtype, first, both - first,
    both, 2 * product / first * 1e-6, 5 * product / (both - first) * 1e-6))
end

local function norm(x) return math.sqrt((x * x):sum():item()) end

-- Inputs are rounded to the dtype first, so that only the computation differs.
local function bench_errors(shape, dtype, options)
  local batch, heads, tokens, features = unpack(shape)
  for _, size in ipairs {1, 2, 4, 8} do
    local inputs = {}
    for i = 1, 4 do
      local x = fp8.randn(batch, tokens, heads, features, {device = options.device}) * size
      inputs[i] = x:to(dtype):transpose(2, 3)
    end
    local function run(kind)
      local x = {}
      for i = 1, 4 do x[i] = inputs[i]:to(kind):detach() end
      for i = 1, 3 do x[i]:requires_grad_() end
      local y = fp8.attention(x[1], x[2], x[3], {causal = not options.full})
      y:backward(x[4])
      return {y:detach(), x[1].grad, x[2].grad, x[3].grad}
    end
    local found, expected, cells = run(dtype), run "f32", {}
    for i = 1, 4 do cells[i] = (" %10.2e"):format(norm(found[i]:to "f32" - expected[i]) / norm(expected[i])) end
    print(("%-22s %-5s × %d %s"):format(table.concat(shape, ", "), dtype, size, table.concat(cells)))
  end
end

measure.main(function()
  local options = measure.options(usage, {
    shapes = read_shapes, device = tostring, dtype = measure.names(dtypes), steps = measure.whole,
  }, {dtype = {"bf16"}, steps = 50, full = false, errors = false, sustained = false})
  options.device = options.device or measure.default_device()
  options.samples, options.seconds = options.steps, options.device == "cpu" and 0.15 or 3
  local shapes = options.shapes or read_shapes(default_shapes[options.device == "cpu" and "cpu" or "cuda"])
  local name = measure.device_name(options.device)
  if options.errors then
    print(("%s\n%-32s %10s %10s %10s %10s"):format(name, "batch, heads, tokens, …", "y", "dq", "dk", "dv"))
  else
    print(("%s; microseconds, medians of up to %d"):format(name, options.samples))
    print(("%-22s %-5s %11s %11s %11s %9s %9s"):format("batch, heads, tokens, …", "", "forward", "backward", "both",
      "TFLOP/s", "backward"))
  end
  for _, shape in ipairs(shapes) do
    for _, dtype in ipairs(options.dtype) do (options.errors and bench_errors or bench)(shape, dtype, options) end
  end
end)

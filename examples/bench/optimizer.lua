--- Steps of optimizers, and clipping, of GPT-2's parameters against a copy on the same device. Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "?.lua;" .. package.path

local fp8 = require "fp8"
local core = require "fp8.core"
local measure = require "measure"

local usage = [[
usage: luajit examples/bench/optimizer.lua [options]
  --device NAME   cpu, cuda, cuda:1, … (default: cuda where it works, else cpu)
  --dtype LIST    of the parameters: f32, f16, bf16 (default bf16,f32)
  --layers N      of GPT-2 at width 768 (default 12: 124 million parameters)
  --steps N       samples of a measurement, whose median is printed (default 50)
  --help          this text

B/elem: the bytes that an element has to move, read and written. share: of the GB/s of a device copy in the same run.
]]

local element_bytes = {f32 = 4, f16 = 2, bf16 = 2}

local function parameter_shapes(layers)
  local width, shapes = 768, {{50304, 768}, {1024, 768}, {768}, {768}}
  for _ = 1, layers do
    for _, shape in ipairs {
      {width}, {width}, {3 * width, width}, {3 * width}, {width, width}, {width},
      {width}, {width}, {4 * width, width}, {4 * width}, {width, 4 * width}, {width},
    } do
      shapes[#shapes + 1] = shape
    end
  end
  return shapes
end

-- Parameters with gradients, and how many elements they have.
local function make_parameters(layers, dtype, device)
  local list, count = {}, 0
  for i, shape in ipairs(parameter_shapes(layers)) do
    list[i] = fp8.randn(shape, {dtype = dtype, device = device, requires_grad = true})
    list[i].grad = fp8.randn(shape, {dtype = dtype, device = device})
    count = count + list[i]:numel()
  end
  return list, count
end

-- Bytes read and written for an element by update kernels (kernels/optim/update.cu).
local function bytes_of(name, settings, d)
  local master = settings.master_weights and d == 2 and 8 or 0
  local moments = name == "SGD" and (settings.momentum and 8 or 0) or 16
  local deviation = name == "StableAdamW" and d + 4 or 0
  return 3 * d + master + moments + deviation
end

local kinds = {
  {"SGD", {}}, {"SGD", {momentum = 0.9}}, {"AdamW", {}}, {"AdamW", {master_weights = true}}, {"StableAdamW", {}},
  {"StableAdamW", {master_weights = true}},
}

local function label(name, settings)
  return name .. (settings.momentum and ", momentum" or "") .. (settings.master_weights and ", masters" or "")
end

local function bench(dtype, options)
  local device, d = options.device, element_bytes[dtype]
  local list, count = make_parameters(options.layers, dtype, device)
  local source = core.randn(count, {device = device})
  local target = core.empty(count, {device = device})
  local copy = 8 * count / (measure.time(function() core.copy_(target, source) end, options) * 1e-6)
  core.free(source)
  core.free(target)
  print(("\n%s, %d tensors of %.1f million elements: a copy moves %.0f GB/s"):format(dtype, #list, count * 1e-6,
    copy * 1e-9))
  print(("%-32s %7s %10s %8s %6s"):format("", "B/elem", "ms", "GB/s", "share"))

  local function report(text, bytes, call)
    local seconds = measure.time(call, options) * 1e-6
    local moved = bytes * count / seconds
    print(("%-32s %7d %10.3f %8.0f %6.2f"):format(text, bytes, seconds * 1e3, moved * 1e-9, moved / copy))
  end

  for _, kind in ipairs(kinds) do
    local name, settings = unpack(kind)
    if d == 2 or not settings.master_weights then
      local optimizer = fp8.optim[name](list, settings)
      local bytes = bytes_of(name, settings, d)
      report(label(name, settings), bytes, function() optimizer:step() end)
      if device ~= "cpu" then
        local graph = fp8.cuda.graph(function() optimizer:step() end, device)
        report(label(name, settings) .. ", graph", bytes, function() graph() end)
      end
    end
  end
  report("norm of the gradients", d, function() core.free(fp8.optim.clip_grad_norm(list, math.huge)) end)
  local tiny = 0.5
  report("norm, and clipping", 3 * d, function()
    tiny = tiny * 0.99 -- so that every call has to scale
    core.free(fp8.optim.clip_grad_norm(list, tiny))
  end)
end

measure.main(function()
  local options = measure.options(usage, {
    device = tostring, dtype = measure.names(element_bytes), layers = measure.whole, steps = measure.whole,
  }, {dtype = {"bf16", "f32"}, layers = 12, steps = 50})
  options.device = options.device or measure.default_device()
  options.samples, options.seconds = options.steps, options.device == "cpu" and 0.15 or 3
  print(("%s; medians of up to %d"):format(measure.device_name(options.device), options.samples))
  for _, dtype in ipairs(options.dtype) do bench(dtype, options) end
end)

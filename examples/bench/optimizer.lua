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
state GiB: what the optimizer keeps, masters included.
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

-- Bytes read and written for an element by update kernels (kernels/optim/update.cu, update_coded.cu).
local function bytes_of(name, settings, d)
  local master, moment = settings.master_weights and d == 2 and 8 or 0, settings.state and 1 or 4
  local moments = name == "SGD" and (settings.momentum and 1 or 0) or name == "Lion" and 1 or 2
  local deviation = name == "StableAdamW" and d + moment or 0
  return 3 * d + master + 2 * moment * moments + deviation
end

local dynamic = {format = fp8.create_dynamic_map()}

local kinds = {
  {"SGD", {}}, {"SGD", {momentum = 0.9}}, {"SGD", {momentum = 0.9, state = dynamic}, "8 bits"}, {"AdamW", {}},
  {"AdamW", {master_weights = true}}, {"AdamW", {rounding = "stochastic"}}, {"AdamW", {state = dynamic}, "8 bits"},
  {"AdamW", {state = dynamic, rounding = "stochastic"}, "8 bits"},
  {"AdamW", {state = dynamic, master_weights = true}, "8 bits"}, {"AdamW", {state = {format = "e4m3"}}, "e4m3"},
  {"Adam", {}}, {"Adam", {state = dynamic}, "8 bits"}, {"Lion", {}}, {"Lion", {state = dynamic}, "8 bits"},
  {"StableAdamW", {}}, {"StableAdamW", {master_weights = true}}, {"StableAdamW", {state = dynamic}, "8 bits"},
}

local function label(name, settings, state)
  local words = {name}
  if settings.momentum then words[#words + 1] = "momentum" end
  if settings.master_weights then words[#words + 1] = "masters" end
  if settings.rounding then words[#words + 1] = settings.rounding end
  words[#words + 1] = state
  return table.concat(words, ", ")
end

-- GiB that an optimizer keeps for its parameters.
local function state_size(optimizer)
  local bytes = 0
  for _, entry in ipairs(optimizer.state) do
    for _, value in pairs(entry) do
      if core.is_tensor(value) then bytes = bytes + value:numel() * (value.dtype == "f32" and 4 or 1) end
    end
  end
  return bytes / 2 ^ 30
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
  print(("%-34s %7s %10s %8s %6s %10s"):format("", "B/elem", "ms", "GB/s", "share", "state GiB"))

  local function report(text, bytes, call, state)
    local seconds = measure.time(call, options) * 1e-6
    local moved = bytes * count / seconds
    print(("%-34s %7d %10.3f %8.0f %6.2f %10s"):format(text, bytes, seconds * 1e3, moved * 1e-9, moved / copy,
      state and ("%.3f"):format(state) or ""))
  end

  for _, kind in ipairs(kinds) do
    local name, settings, state = unpack(kind)
    if d == 2 or not (settings.master_weights or settings.rounding) then
      local optimizer, text = fp8.optim[name](list, settings), label(name, settings, state)
      local bytes, size = bytes_of(name, settings, d), state_size(optimizer)
      report(text, bytes, function() optimizer:step() end, size)
      if device ~= "cpu" then
        local graph = fp8.cuda.graph(function() optimizer:step() end, device)
        report(text .. ", graph", bytes, function() graph() end, size)
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

--- A recipe that keeps a network from learning, and how fp8.watch shows why. Options: --help.
--
-- The network predicts two quantities from one input, in units ten thousand times apart, as a distance and a thickness
-- in metres are. The gradient of the squared error is then a hundred million times larger for the one than for the
-- other. AdamW does not mind; a format has to hold both at once.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "lib/?.lua;" .. package.path

local fp8 = require "fp8"
local options = require "options"

local usage = [[
usage: luajit examples/watch.lua [options]
  --device NAME   cpu, cuda, … (default cpu)
  --steps N       training steps of each run (default 1000)
  --every N       steps from one that is watched to the next (default 10)
  --save PREFIX   writes PREFIX-e4m3.csv and PREFIX-e5m2.csv with all that was watched
  --help          this text
]]

local kinds = options.kinds

local settings = options.read("watch", usage, {
  device = kinds.device, steps = kinds.whole, every = kinds.whole, save = kinds.path,
}, {device = "cpu", steps = 1000, every = 10})
local on = {device = settings.device}
local features, width, batch = 16, 64, 256

-- Two quantities of about these sizes, each a smooth function of the input with some noise.
local units = fp8.tensor({100, 0.01}, on)
local directions, noise = nil, 0.1

local function make_batch()
  local x = fp8.randn(batch, features, on)
  local quantities = fp8.matmul(x, directions):tanh() * 1.5 + fp8.randn(batch, 2, on) * noise
  return x, quantities * units
end

-- The share of each quantity's variance that the model does not explain.
local function unexplained(model, x, target)
  return fp8.no_grad(function()
    local left = (model(x) * units - target) / units
    local spread = target / units - (target / units):mean(1, true)
    return ((left * left):mean(1) / (spread * spread):mean(1)):totable()
  end)
end

-- Trains a network whose layers quantize the gradient of their output to `format`. Returns its watcher.
local function train(format)
  fp8.manual_seed(1)
  directions = fp8.randn(features, 2, on) / 2
  local layer = {device = settings.device, native = true, grad_output = {format = format, scale = "tensor"}}
  local model = fp8.nn.Sequential(
    fp8.LinearGlobal(features, width, layer), fp8.nn.GELU(),
    fp8.LinearGlobal(width, width, layer), fp8.nn.GELU(),
    fp8.LinearGlobal(width, 2, layer))
  local optimizer = fp8.optim.AdamW(model, {lr = 0.003, weight_decay = 0})
  local watcher = fp8.watch(model, {every = settings.every})
  local test_x, test_target = make_batch()
  print(("gradients as %s, one scale a tensor"):format(format))
  print "  step   unexplained: distance  thickness"
  for step = 1, settings.steps do
    fp8.scope(function()
      local x, target = make_batch()
      optimizer:zero_grad()
      local error = model(x) * units - target
      local loss = (error * error):mean()
      loss:backward()
      optimizer:step()
      watcher:step()
    end)
    if step % math.ceil(settings.steps / 5) == 0 or step == settings.steps then
      local distance, thickness = unpack(unexplained(model, test_x, test_target))
      print(("%6d %22.3f %10.3f"):format(step, distance, thickness))
    end
  end
  return watcher
end

for _, format in ipairs {"e4m3", "e5m2"} do
  local watcher = train(format)
  watcher:print(5)
  if settings.save then watcher:save(("%s-%s.csv"):format(settings.save, format)) end
  print ""
end

print [[
With e4m3 half of the last layer's grad_output underflows: all of what the thickness would learn from is below the
smallest number that the format holds beside the distance's gradients. Its signal-to-noise ratio looks sound, since the
distance's gradients are nearly all of the signal. e5m2 has a digit less and the range for both.]]

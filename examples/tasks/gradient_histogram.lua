--- A histogram of a gradient's exponents, and how many of its elements each format of eight bits would lose.
-- Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "../lib/?.lua;" .. package.path
local fp8, options = require "fp8", require "options"

local kinds, nn = options.kinds, fp8.nn
local settings = options.read("gradient_histogram",
  "usage: luajit examples/tasks/gradient_histogram.lua [--steps N] [--width N] [--device NAME]\n",
  {steps = kinds.whole, width = kinds.whole, device = kinds.device},
  {steps = 100, width = 128, device = fp8.cuda.is_available() and "cuda" or "cpu"})
local width = settings.width
fp8.set_default_device(settings.device)
fp8.manual_seed(1)

local images, labels = fp8.data.fashion_mnist("train", {device = settings.device})
local model = nn.Sequential(
  fp8.Linear(784, width), nn.GELU(), fp8.Linear(width, width), nn.GELU(), fp8.Linear(width, 10))
local optimizer, step = fp8.optim.AdamW(model, {lr = 0.002}), 0
for x, target in fp8.data.batches({images, labels}, {batch = 100, shuffle = true, seed = 1}) do
  step = step + 1
  optimizer:zero_grad()
  fp8.cross_entropy(model(x:float() / 255 - 0.286), target):backward()
  optimizer:step()
  if step == settings.steps then break end
end

local grad = model[3].weight.grad
local magnitudes = grad:abs()
local exponents = magnitudes:masked_select(magnitudes:gt(0)):log2():floor()
local first, last = exponents:min():item(), exponents:max():item()
local counts, edges = exponents:histogram(last - first + 1, {range = {first, last + 1}})
local most = counts:max():item()
for i, count in ipairs(counts:totable()) do
  print(("2^%-4d %8d %s"):format(edges[i]:item(), count, ("#"):rep(math.ceil(60 * count / most))))
end
print(fp8.analyze(grad, {scales = {"tensor"}}))

--- A network of three layers on Fashion-MNIST, with a loop of one's own. Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "../lib/?.lua;" .. package.path
local fp8, options = require "fp8", require "options"

local kinds, nn = options.kinds, fp8.nn
local settings = options.read("mlp",
  "usage: luajit examples/tasks/mlp.lua [--recipe NAME] [--epochs N] [--width N] [--device NAME]\n",
  {recipe = kinds.text, epochs = kinds.whole, width = kinds.whole, device = kinds.device},
  {recipe = "mixed", epochs = 2, width = 256, device = fp8.cuda.is_available() and "cuda" or "cpu"})
local width, device = settings.width, settings.device
fp8.set_default_device(device)
fp8.manual_seed(1)

local images, labels = fp8.data.fashion_mnist("train", {device = device})
local test_images, test_labels = fp8.data.fashion_mnist("test", {device = device})
local model = nn.Sequential(
  fp8.Linear(784, width), nn.GELU(), fp8.Linear(width, width), nn.GELU(), nn.Dropout(0.1), fp8.Linear(width, 10))
fp8.convert(model, settings.recipe)
local steps = math.ceil(images:size(1) / 100) * settings.epochs
local optimizer = fp8.optim.AdamW(model, {lr = 0.002, weight_decay = 0.01})
local rate = fp8.optim.cosine_schedule {lr = 0.002, steps = steps, warmup = math.min(50, steps - 1)}

local step = 0
for epoch = 1, settings.epochs do
  model:train()
  for x, target in fp8.data.batches({images, labels}, {batch = 100, shuffle = true, seed = epoch}) do
    step = step + 1
    optimizer.lr = rate(step)
    optimizer:zero_grad()
    fp8.cross_entropy(model(x:float() / 255 - 0.286), target, {label_smoothing = 0.05}):backward()
    optimizer:step()
  end
  model:eval()
  local right = fp8.no_grad(model, test_images:float() / 255 - 0.286):argmax(-1):eq(test_labels)
  print(("epoch %d: %.2f%% of the test images right"):format(epoch, 100 * right:float():mean():item()))
end

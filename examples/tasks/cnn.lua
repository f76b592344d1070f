--- A convolutional network on Fashion-MNIST, with any recipe in its layers. Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "../lib/?.lua;" .. package.path
local fp8, options = require "fp8", require "options"
local kinds, nn = options.kinds, fp8.nn
local settings = options.read("cnn",
  "usage: luajit examples/tasks/cnn.lua [--recipe NAME] [--epochs N] [--width N] [--batch N] [--device NAME]\n",
  {recipe = kinds.text, epochs = kinds.whole, width = kinds.whole, batch = kinds.whole, device = kinds.device},
  {epochs = 2, width = 32, batch = 128, device = fp8.cuda.is_available() and "cuda" or "cpu"})
fp8.set_default_device(settings.device)
fp8.manual_seed(1)

local images, labels = fp8.data.fashion_mnist("train", {device = settings.device})
local test_images, test_labels = fp8.data.fashion_mnist("test", {device = settings.device})
local width = settings.width
local model = nn.Sequential(
  nn.Conv2d(1, width, 3, {padding = 1}), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
  nn.Conv2d(width, 2 * width, 3, {padding = 1}), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d(2),
  nn.Flatten(), fp8.Linear(2 * width * 49, 128), nn.ReLU(), fp8.Linear(128, 10))
if settings.recipe then fp8.convert(model, settings.recipe, function(name) return name ~= "1" and name ~= "12" end) end
local optimizer = fp8.optim.AdamW(model, {lr = 0.002})
local rate = fp8.optim.cosine_schedule {lr = 0.002, steps = settings.epochs * math.ceil(#images / settings.batch)}

local function logits(x) return model(((x:float() / 255 - 0.2860) / 0.3530):view(-1, 1, 28, 28)) end
local step = 0
for epoch = 1, settings.epochs do
  model:train()
  for x, target in fp8.data.batches({images, labels}, {batch = settings.batch, shuffle = true, seed = epoch}) do
    step = step + 1
    optimizer:zero_grad()
    fp8.cross_entropy(logits(x), target):backward()
    optimizer.lr = rate(step)
    optimizer:step()
  end
  model:eval()
  local right = 0
  for x, target in fp8.data.batches({test_images, test_labels}, {batch = 1000}) do
    right = right + fp8.no_grad(logits, x):argmax(-1):eq(target):sum():item()
  end
  print(("epoch %d: test accuracy %.2f%%"):format(epoch, 100 * right / #test_labels))
end

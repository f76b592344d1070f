--- A small network learns from a larger one what that says of Fashion-MNIST's images: Hinton et al., "Distilling the
-- knowledge in a neural network" (2015). Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "../lib/?.lua;" .. package.path
local fp8, options = require "fp8", require "options"

local kinds, nn = options.kinds, fp8.nn
local settings = options.read("distillation",
  "usage: luajit examples/tasks/distillation.lua [--epochs N] [--width N] [--temperature X] [--device NAME]\n",
  {epochs = kinds.whole, width = kinds.whole, temperature = kinds.positive, device = kinds.device},
  {epochs = 2, width = 16, temperature = 3, device = fp8.cuda.is_available() and "cuda" or "cpu"})
local temperature, device = settings.temperature, settings.device
fp8.set_default_device(device)
fp8.manual_seed(1)

local images, labels = fp8.data.fashion_mnist("train", {device = device})
local test_images, test_labels = fp8.data.fashion_mnist("test", {device = device})
local function network(width) return nn.Sequential(fp8.Linear(784, width), nn.ReLU(), fp8.Linear(width, 10)) end

local function train(model, loss_of)
  local optimizer = fp8.optim.AdamW(model, {lr = 0.002})
  for epoch = 1, settings.epochs do
    for x, target in fp8.data.batches({images, labels}, {batch = 100, shuffle = true, seed = epoch}) do
      x = x:float() / 255 - 0.286
      optimizer:zero_grad()
      loss_of(model(x), target, x):backward()
      optimizer:step()
    end
  end
  local logits = fp8.no_grad(model, test_images:float() / 255 - 0.286)
  return 100 * logits:argmax(-1):eq(test_labels):float():mean():item()
end

local teacher = network(16 * settings.width)
local function by_labels(logits, target) return fp8.cross_entropy(logits, target) end
local function by_teacher(logits, target, x)
  local wanted = fp8.no_grad(teacher, x):div(temperature):log_softmax(-1)
  local soft = fp8.kl_div((logits / temperature):log_softmax(-1), wanted, {reduction = "batchmean", log_target = true})
  return soft * temperature ^ 2 * 0.7 + by_labels(logits, target) * 0.3
end
print(("teacher: %.2f%%"):format(train(teacher, by_labels)))
fp8.manual_seed(2)
print(("student alone: %.2f%%"):format(train(network(settings.width), by_labels)))
fp8.manual_seed(2)
print(("student of the teacher: %.2f%%"):format(train(network(settings.width), by_teacher)))

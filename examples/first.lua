-- Trains a network of FP8 layers on Fashion-MNIST. The one argument is a device: cuda where there is one, else cpu.
local fp8 = require "fp8"

local device = arg[1] or fp8.cuda.is_available() and "cuda" or "cpu"
fp8.set_default_device(device)
fp8.manual_seed(1)

local images, labels = fp8.data.fashion_mnist("train", {device = device})
local test_images, test_labels = fp8.data.fashion_mnist("test", {device = device})

local model = fp8.nn.Sequential(
  fp8.LinearMixed(784, 256), fp8.nn.ReLU(),
  fp8.LinearMixed(256, 256), fp8.nn.ReLU(),
  fp8.LinearMixed(256, 10))
local optimizer = fp8.optim.AdamW(model, {lr = 0.001})

-- Grey values from 0 to 255 as numbers of mean 0 and deviation 1.
local function normalized(x) return (x:float() / 255 - 0.2860) / 0.3530 end

local function train(x, target)
  optimizer:zero_grad()
  local loss = fp8.cross_entropy(model(normalized(x)), target)
  loss:backward()
  optimizer:step()
  return loss:detach()
end

-- The share of the test images that the model puts in their class.
local function accuracy()
  return model(normalized(test_images)):argmax(-1):eq(test_labels):float():mean():item()
end

for epoch = 1, 5 do
  local total, steps = 0, 0
  for x, target in fp8.data.batches({images, labels}, {batch = 128, shuffle = true, seed = epoch}) do
    total, steps = total + train(x, target), steps + 1
  end
  print(("epoch %d: loss %.4f, test accuracy %.2f%%"):format(epoch, total:item() / steps,
    100 * fp8.no_grad(accuracy)))
end

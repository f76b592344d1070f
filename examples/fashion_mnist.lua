--- Trains the same network on Fashion-MNIST with each of the three linear layers, from the same weights and in the same
-- order, and compares them. Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "lib/?.lua;" .. package.path

local fp8 = require "fp8"
local options = require "options"
local training = require "training"

local usage = [[
usage: luajit examples/fashion_mnist.lua [options]
  --device NAME   cpu, cuda, cuda:1, … (default: cuda where it works, else cpu)
  --dtype NAME    f32, f16 or bf16: dtype of the activations; weights stay f32 (default f32)
  --epochs N      passes over the 60,000 training images (default 5)
  --width N       features of the two hidden layers (default 256)
  --batch N       images in a batch (default 128)
  --lr X          learning rate of AdamW at the start; it falls to 0 (default 0.002)
  --seed N        of the weights and the order of the images (default 1)
  --layers LIST   which layers to train (default Linear,LinearMixed,LinearGlobal)
  --native        hardware formats e4m3 and e5m2 instead of bitsandbytes' maps
  --help          this text
]]

local kinds = options.kinds

local readers = {
  device = kinds.device, dtype = {options.one_of("f32", "f16", "bf16"), "f32, f16 or bf16"}, epochs = kinds.whole,
  width = kinds.whole, batch = kinds.whole, seed = kinds.whole, lr = kinds.positive,
  layers = {
    options.names {Linear = true, LinearMixed = true, LinearGlobal = true},
    "a list of Linear, LinearMixed and LinearGlobal",
  },
}

-- Grey values from 0 to 255 as numbers of mean 0 and deviation 1 over the training images.
local function normalized(images, dtype) return ((images:float() / 255 - 0.2860) / 0.3530):to(dtype) end

local function build_model(layer, settings)
  local with = {device = settings.device, native = layer ~= "Linear" and settings.native or nil}
  local function linear(inputs, outputs) return fp8[layer](inputs, outputs, with) end
  return fp8.nn.Sequential(
    linear(784, settings.width), fp8.nn.ReLU(),
    linear(settings.width, settings.width), fp8.nn.ReLU(),
    linear(settings.width, 10))
end

-- The share of images that the model puts in their class.
local function accuracy(model, images, labels, dtype)
  local right = 0
  for some_images, some_labels in fp8.data.batches({images, labels}, {batch = 1000}) do
    right = right + fp8.scope(function()
      return model(normalized(some_images, dtype)):argmax(-1):eq(some_labels):sum():item()
    end)
  end
  return right / #labels
end

local function experiment(settings)
  local on_device = {device = settings.device}
  local images, labels = fp8.data.fashion_mnist("train", on_device)
  local test_images, test_labels = fp8.data.fashion_mnist("test", on_device)
  local batch, batches = settings.batch, math.floor(#labels / settings.batch)
  if batches == 0 then error(("a batch of %d is more than the %d training images"):format(batch, #labels), 0) end

  local function build(precision, seed)
    local model = build_model(precision.name, settings)
    local chosen = fp8.zeros(batch, {dtype = "i64", device = settings.device})
    local order, order_epoch
    local run = {model = model, steps = settings.epochs * batches, units = batch}

    function run.feed(step)
      local epoch, position = math.floor((step - 1) / batches), (step - 1) % batches
      if epoch ~= order_epoch then
        order, order_epoch = fp8.data.permutation(#labels, seed * 1000 + epoch, on_device), epoch
      end
      chosen:copy_(order:narrow(1, position * batch + 1, batch))
    end

    function run.loss()
      local x = normalized(images:index_select(1, chosen), settings.dtype)
      return fp8.cross_entropy(model(x), labels:index_select(1, chosen))
    end

    function run.evaluate() return {accuracy = accuracy(model, test_images, test_labels, settings.dtype)} end

    return run
  end

  local precisions = {}
  for i, layer in ipairs(settings.layers) do precisions[i] = {name = layer, dtype = settings.dtype} end
  return {
    name = "fashion_mnist", unit = "images", row = "layer", build = build, precisions = precisions,
    metrics = {{name = "test accuracy", key = "accuracy", format = "%.2f%%", factor = 100}}, settings = {},
  }
end

options.main("fashion_mnist", function()
  local settings = options.read("fashion_mnist", usage, readers, {
    dtype = "f32", epochs = 5, width = 256, batch = 128, lr = 0.002, seed = 1, native = false,
    layers = {"Linear", "LinearMixed", "LinearGlobal"},
  })
  settings.device = settings.device or (fp8.cuda.is_available() and "cuda" or "cpu")
  settings.seeds, settings.optimizer, settings.weight_decay, settings.warmup, settings.clip = 1, "adamw", 0.01, 0, 0
  local work = experiment(settings)
  print(("784-%d-%d-10 on %s in %s, %d epochs"):format(settings.width, settings.width, settings.device,
    settings.dtype, settings.epochs))
  if not training.compare(work, settings) then os.exit(1, true) end
end)

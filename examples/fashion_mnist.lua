--- Trains the same network on Fashion-MNIST with each of the three linear layers, from the same weights and in the same
-- order, and compares them. Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "lib/?.lua;" .. package.path

local fp8 = require "fp8"
local make_loss_log = require "loss_log"
local make_report = require "report"
local options = require "options"
local stepping = require "stepping"
local training = require "training"

local usage = [[
usage: luajit examples/fashion_mnist.lua [options]
  --device NAME   cpu, cuda, cuda:1, … (default: cuda where it works, else cpu)
  --dtype NAME    f32, f16 or bf16: dtype of the activations; weights stay f32 (default f32)
  --epochs N      passes over the 60,000 training images (default 5)
  --width N       features of the two hidden layers (default 256)
  --batch N       images in a batch (default 128)
  --lr X          learning rate of AdamW at the start; it falls to 0 (default 0.002)
  --clip X        largest norm of all gradients together (default 0: any)
  --seed N        of the weights and the order of the images (default 1)
  --layers LIST   which layers to train (default Linear,LinearMixed,LinearGlobal)
  --native        hardware formats e4m3 and e5m2 instead of bitsandbytes' maps
  --help          this text
]]

local kinds = options.kinds

local readers = {
  device = kinds.device, dtype = {options.one_of("f32", "f16", "bf16"), "f32, f16 or bf16"}, epochs = kinds.whole,
  width = kinds.whole, batch = kinds.whole, seed = kinds.whole, lr = kinds.positive, clip = kinds.not_negative,
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
local function accuracy(model, set, dtype)
  local right = 0
  for some_images, some_labels in fp8.data.batches({set.images, set.labels}, {batch = 1000}) do
    right = right + fp8.scope(function()
      return model(normalized(some_images, dtype)):argmax(-1):eq(some_labels):sum():item()
    end)
  end
  return right / #set.labels
end

local experiment = {
  name = "fashion_mnist", unit = "images", row = "layer",
  metrics = {{name = "test accuracy", key = "accuracy", format = "%.2f%%", factor = 100}},
}

-- AdamW with weight decay on the matrices only.
local function make_optimizer(model, settings)
  local weights, biases = {}, {}
  for name, parameter in model:named_parameters() do
    table.insert(name:find "weight$" and weights or biases, parameter)
  end
  return fp8.optim.AdamW({{parameters = weights, weight_decay = 0.01}, {parameters = biases, weight_decay = 0}},
    {lr = settings.lr})
end

-- Trains a network of these layers. Returns what the table at the end shows of it, or nil and what went wrong.
local function train(layer, train_set, test_set, settings)
  fp8.manual_seed(settings.seed)
  local model = build_model(layer, settings)
  local optimizer = make_optimizer(model, settings)
  local batch, rows = settings.batch, #train_set.labels
  local steps = settings.epochs * math.floor(rows / batch)
  local rate = fp8.optim.cosine_schedule {lr = settings.lr, steps = steps}

  -- The step reads fixed tensors, so that a GPU can replay it as a graph.
  local x = fp8.zeros(batch, 784, {dtype = "u8", device = settings.device})
  local target = fp8.zeros(batch, {dtype = "u8", device = settings.device})
  local take_step = stepping.repeated(function()
    optimizer:zero_grad()
    local loss = fp8.cross_entropy(model(normalized(x, settings.dtype)), target)
    loss:backward()
    if settings.clip > 0 then fp8.optim.clip_grad_norm(model, settings.clip) end
    optimizer:step()
    return loss:detach()
  end, settings.device)

  local losses = make_loss_log(steps, settings.device)
  local report = make_report(experiment, {steps = steps, units = batch}, {name = layer}, settings)
  local step, result = 0, nil
  for epoch = 0, settings.epochs - 1 do
    local order = {batch = batch, shuffle = true, drop_last = true, seed = settings.seed * 1000 + epoch}
    for images, labels in fp8.data.batches({train_set.images, train_set.labels}, order) do
      step = step + 1
      x:copy_(images)
      target:copy_(labels)
      optimizer.lr = rate(step)
      if losses.add(take_step()) or step == 1 or step == steps then
        local values = losses.read()
        local bad = losses.first_bad(values)
        if bad then return nil, ("step %d: the loss is %g"):format(step - #values + bad, values[bad]) end
        if step == steps then result = {accuracy = report.pause(accuracy, model, test_set, settings.dtype)} end
        report.losses(values, step, result)
      end
    end
  end
  result.loss, result.seconds, result.rate = report.loss, report.seconds, report.rate
  return result
end

local function load(split, settings)
  local images, labels = fp8.data.fashion_mnist(split, {device = settings.device})
  return {images = images, labels = labels}
end

options.main("fashion_mnist", function()
  local settings = options.read("fashion_mnist", usage, readers, {
    dtype = "f32", epochs = 5, width = 256, batch = 128, lr = 0.002, clip = 0, seed = 1, native = false,
    layers = {"Linear", "LinearMixed", "LinearGlobal"},
  })
  settings.device = settings.device or (fp8.cuda.is_available() and "cuda" or "cpu")
  settings.seeds = 1
  local train_set, test_set = load("train", settings), load("test", settings)
  if settings.batch > #train_set.labels then
    error(("a batch of %d is more than the %d training images"):format(settings.batch, #train_set.labels), 0)
  end
  print(("784-%d-%d-10 on %s in %s, %d epochs"):format(settings.width, settings.width, settings.device,
    settings.dtype, settings.epochs))
  local layers = {}
  for i, layer in ipairs(settings.layers) do layers[i] = {name = layer} end
  local all_well = training.tabulate(experiment, layers, settings, function(layer)
    return train(layer.name, train_set, test_set, settings)
  end)
  if not all_well then os.exit(1, true) end
end)

--- Trains a vision transformer on Fashion-MNIST, in several precisions from the same weights and in the same order.
-- Options: --help. Dosovitskiy et al., "An image is worth 16x16 words" (2021), here with patches of 4 x 4 and the mean
-- over them instead of a class token.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "lib/?.lua;" .. package.path

local fp8 = require "fp8"
local options = require "options"
local ranks = require "ranks"
local training = require "training"

local usage = [[
usage: luajit examples/vit.lua [options]                                    (default on the GPU, on the CPU)
  --layers N       transformer blocks (4, 2)
  --width N        features (128, 64)
  --heads N        of attention (4, 2)
  --batch N        images in a step, of all ranks together (512, 128)
  --epochs N       passes over the images (30, 4)
  --images N       training images, of 60,000 (60000, 20000)
  --layer-scale    every block begins as the identity: its branches are scaled by 0 at first
  --augment YES    yes or no: random shifts by up to 2 pixels, and mirror images (yes, no)
  --evaluate-every N   steps between looks at the test images (default: at the end)
]]

local own_readers = {
  layers = options.kinds.whole, width = options.kinds.whole, heads = options.kinds.whole,
  batch = options.kinds.whole, epochs = options.kinds.whole, images = options.kinds.whole,
  evaluate_every = options.kinds.whole, augment = {options.one_of("yes", "no"), "yes or no"},
}

local sizes = {
  cuda = {layers = 4, width = 128, heads = 4, batch = 512, epochs = 30, images = 60000, augment = "yes", lr = 2e-3},
  cpu = {layers = 2, width = 64, heads = 2, batch = 128, epochs = 4, images = 20000, augment = "no", lr = 3e-3},
}

local side, patch, border, classes = 28, 4, 2, 10
local pixels, padded_side = side * side, side + 2 * border
local patches, patch_pixels = (side / patch) ^ 2, patch * patch

local nn = fp8.nn

local VisionTransformer = nn.Module:extend "VisionTransformer"

function VisionTransformer:init(settings, dtype)
  local on = {dtype = dtype, device = settings.device}
  self.patches = nn.Linear(patch_pixels, settings.width, on)
  self.positions = (fp8.randn(patches, settings.width, {device = settings.device}) * 0.2):to(dtype):requires_grad_()
  local blocks = {}
  for i = 1, settings.layers do
    blocks[i] = nn.TransformerBlock(settings.width, settings.heads,
      {layer_scale = settings.layer_scale and 0 or nil, dtype = dtype, device = settings.device})
  end
  self.blocks = nn.Sequential(blocks)
  self.norm = nn.LayerNorm(settings.width, on)
  self.head = nn.Linear(settings.width, classes, on)
end

--- x (n, patches, pixels of a patch) to logits (n, classes).
function VisionTransformer:forward(x)
  local y = self.blocks(self.patches(x) + self.positions)
  return self.head(self.norm(y):mean(2))
end

-- Images with a border of zeros, u8 (n, padded pixels), and labels.
local function load_images(split, settings, count)
  local images, labels = fp8.data.fashion_mnist(split, {device = settings.device})
  count = math.min(count or #labels, #labels)
  local padded = fp8.zeros(count, padded_side, padded_side, {dtype = "u8", device = settings.device})
  padded:narrow(2, border + 1, side):narrow(3, border + 1, side):copy_(
    images:narrow(1, 1, count):view(count, side, side))
  return {images = padded:view(count, -1), labels = labels:narrow(1, 1, count), count = count}
end

-- The places in a padded image of the pixels of one patch after the other.
local function pixel_places(down, right, mirrored)
  local places = {}
  for row = 0, side - 1, patch do
    for column = 0, side - 1, patch do
      for y = row, row + patch - 1 do
        for x = column, column + patch - 1 do
          local across = mirrored and side - 1 - x or x
          places[#places + 1] = (y + down) * padded_side + across + right
        end
      end
    end
  end
  return places
end

-- i64 (50, 784): one row of places for every shift and its mirror image.
local function all_views(device)
  local rows = {}
  for down = 0, 2 * border do
    for right = 0, 2 * border do
      rows[#rows + 1] = pixel_places(down, right, false)
      rows[#rows + 1] = pixel_places(down, right, true)
    end
  end
  return fp8.tensor(rows, {dtype = "i64", device = device})
end

local function experiment(settings)
  local device = settings.device
  local train, test = load_images("train", settings, settings.images), load_images("test", settings)
  if train.count < settings.batch then
    error(("a batch of %d is more than the %d training images"):format(settings.batch, train.count), 0)
  end
  local on_device = {dtype = "i64", device = device}
  local centre = fp8.tensor(pixel_places(border, border, false), on_device)
  local views = settings.augment == "yes" and all_views(device) or centre:view(1, pixels)
  local test_pixels = test.images:index_select(2, centre)
  local batches = math.floor(train.count / settings.batch)
  -- Every grey value as a number of mean 0 and deviation 1 over the training images.
  local normalized = (fp8.arange(256, {dtype = "f32", device = device}) / 255 - 0.2860) / 0.3530

  local function build(precision, seed)
    local model = VisionTransformer(settings, precision.dtype)
    local grey = normalized:to(precision.dtype)
    local share = ranks.share_of(settings.batch)
    local chosen, ways = fp8.zeros(share, on_device), fp8.zeros(share, on_device)
    local order, order_epoch
    local run = {model = model, steps = settings.epochs * batches, units = settings.batch}

    local function tokens(values)
      return grey:index_select(1, values:view(-1)):view(values:size(1), patches, patch_pixels)
    end

    function run.feed(step)
      local epoch, batch = math.floor((step - 1) / batches), (step - 1) % batches
      if epoch ~= order_epoch then
        order, order_epoch = fp8.data.permutation(train.count, seed * 1000 + epoch, {device = device}), epoch
      end
      chosen:copy_(ranks.share(order:narrow(1, batch * settings.batch + 1, settings.batch)))
      ways:copy_(ranks.share(fp8.randint(0, views:size(1), {settings.batch}, on_device)))
    end

    function run.loss()
      local values = train.images:index_select(1, chosen):gather(2, views:index_select(1, ways))
      return fp8.cross_entropy(model(tokens(values)), train.labels:index_select(1, chosen))
    end

    function run.evaluate()
      local right = 0
      for first = 1, test.count, 1000 do
        local count = math.min(1000, test.count - first + 1)
        right = right + fp8.scope(function()
          local found = model(tokens(test_pixels:narrow(1, first, count))):argmax(-1)
          return found:eq(test.labels:narrow(1, first, count)):sum():item()
        end)
      end
      return {accuracy = right / test.count}
    end

    return run
  end

  return {
    name = "vit", unit = "images", build = build,
    metrics = {{name = "test accuracy", key = "accuracy", format = "%.2f%%", factor = 100}},
    settings = {"layers", "width", "heads", "batch", "epochs", "images", "layer_scale", "augment"},
  }
end

options.main("vit", function()
  local settings = training.options("vit", usage, own_readers,
    {layer_scale = false, weight_decay = 0.05}, sizes)
  local work = experiment(settings)
  print(("%d layers of width %d, batch %d, %d epochs, on %s%s"):format(settings.layers, settings.width, settings.batch,
    settings.epochs, settings.device, settings.layer_scale and ", layer scale from 0" or ""))
  if not training.compare(work, settings) then os.exit(1, true) end
end)

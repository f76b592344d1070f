--- LoRA: a network that knows some of Fashion-MNIST's classes learns the others by matrices of low rank beside its
-- frozen weights, which stay quantized. Hu et al., "LoRA: low-rank adaptation of large language models" (2021).
-- Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "../lib/?.lua;" .. package.path
local fp8, options = require "fp8", require "options"

local kinds, nn = options.kinds, fp8.nn
local settings = options.read("lora",
  "usage: luajit examples/tasks/lora.lua [--rank N] [--width N] [--epochs N] [--device NAME]\n",
  {rank = kinds.whole, width = kinds.whole, epochs = kinds.whole, device = kinds.device},
  {rank = 4, width = 256, epochs = 2, device = fp8.cuda.is_available() and "cuda" or "cpu"})
fp8.set_default_device(settings.device)
fp8.manual_seed(1)
local Adapted = nn.Module:extend "Adapted"
function Adapted:init(layer, rank)
  self.layer = layer:requires_grad_(false)
  self.a = nn.init.kaiming_uniform_(fp8.empty(rank, layer.in_features)):requires_grad_()
  self.b = fp8.zeros(layer.out_features, rank, {requires_grad = true})
end
function Adapted:forward(x) return self.layer(x) + x:matmul(self.a:t()):matmul(self.b:t()) end

local images, labels = fp8.data.fashion_mnist("train", {device = settings.device})
local function train(model, chosen)
  local optimizer, data = fp8.optim.AdamW(model, {lr = 0.004}), {images[chosen], labels[chosen]}
  local share
  for epoch = 1, settings.epochs do
    local right = 0
    for x, target in fp8.data.batches(data, {batch = 100, shuffle = true, seed = epoch}) do
      optimizer:zero_grad()
      local logits = model(x:float() / 255 - 0.286)
      fp8.cross_entropy(logits, target):backward()
      optimizer:step()
      right = right + logits:detach():argmax(-1):eq(target):sum()
    end
    share = 100 * right:item() / #data[2]
  end
  return share
end

local first = fp8.LinearMixed(784, settings.width)
local second = fp8.LinearMixed(settings.width, 10)
print(("classes 0 to 4: %.1f%% right"):format(train(nn.Sequential(first, nn.ReLU(), second), labels:lt(5))))
local adapted = nn.Sequential(Adapted(first, settings.rank), nn.ReLU(), Adapted(second, settings.rank))
print(("classes 5 to 9: %.1f%% right"):format(train(adapted, labels:ge(5))))

--- A block of a vision transformer by hand, on the patches of Fashion-MNIST's images. Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "../lib/?.lua;" .. package.path
local fp8, options = require "fp8", require "options"
local kinds, nn = options.kinds, fp8.nn
local settings = options.read("vit_block",
  "usage: luajit examples/tasks/vit_block.lua [--epochs N] [--images N] [--width N] [--device NAME]\n",
  {epochs = kinds.whole, images = kinds.whole, width = kinds.whole, device = kinds.device},
  {epochs = 2, images = 20000, width = 64, device = fp8.cuda.is_available() and "cuda" or "cpu"})
local width, heads = settings.width, 4
fp8.set_default_device(settings.device)
fp8.manual_seed(1)
local Model = nn.Module:extend "Model"
function Model:init()
  self.patches, self.positions = fp8.Linear(16, width), fp8.randn(49, width):mul(0.2):requires_grad_()
  self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
  self.qkv, self.out = fp8.Linear(width, 3 * width), fp8.Linear(width, width)
  self.up, self.down, self.head = fp8.Linear(width, 4 * width), fp8.Linear(4 * width, width), fp8.Linear(width, 10)
end
function Model:forward(images) -- grey values (n, 784): 7 × 7 patches of 4 × 4
  local pixels = (images:float() / 255 - 0.286):view(-1, 7, 4, 7, 4):permute(1, 2, 4, 3, 5):reshape(-1, 49, 16)
  local x = self.patches(pixels) + self.positions
  local parts = self.qkv(self.norm1(x)):view(-1, 49, 3, heads, width / heads):permute(3, 1, 4, 2, 5)
  x = x + self.out(fp8.attention(parts[1], parts[2], parts[3]):transpose(2, 3):reshape(-1, 49, width))
  x = x + self.down(self.up(self.norm2(x)):gelu())
  return self.head(self.norm3(x):mean(2))
end

local data = {fp8.data.fashion_mnist("train", {device = settings.device})}
for i, tensor in ipairs(data) do data[i] = tensor:narrow(1, 1, math.min(settings.images, #tensor)) end
local model = Model()
local optimizer = fp8.optim.AdamW(model, {lr = 0.003})
for epoch = 1, settings.epochs do
  local right = 0
  for x, target in fp8.data.batches(data, {batch = 50, shuffle = true, seed = epoch}) do
    optimizer:zero_grad()
    local logits = model(x)
    fp8.cross_entropy(logits, target):backward()
    optimizer:step()
    right = right + logits:detach():argmax(-1):eq(target):sum()
  end
  print(("epoch %d: %.1f%% right while training"):format(epoch, 100 * right:item() / #data[2]))
end

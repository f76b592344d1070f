--- A variational autoencoder of Fashion-MNIST's images: Kingma and Welling, "Auto-encoding variational Bayes" (2013).
-- Prints one of the images that it makes up. Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "../lib/?.lua;" .. package.path
local fp8, options = require "fp8", require "options"

local kinds, nn = options.kinds, fp8.nn
local settings = options.read("vae",
  "usage: luajit examples/tasks/vae.lua [--epochs N] [--width N] [--latent N] [--device NAME]\n",
  {epochs = kinds.whole, width = kinds.whole, latent = kinds.whole, device = kinds.device},
  {epochs = 3, width = 256, latent = 16, device = fp8.cuda.is_available() and "cuda" or "cpu"})
local width, latent = settings.width, settings.latent
fp8.set_default_device(settings.device)
fp8.manual_seed(1)

local images = fp8.data.fashion_mnist("train", {device = settings.device})
local encoder = nn.Sequential(fp8.Linear(784, width), nn.ReLU(), fp8.Linear(width, 2 * latent))
local decoder = nn.Sequential(fp8.Linear(latent, width), nn.ReLU(), fp8.Linear(width, 784))
local optimizer = fp8.optim.AdamW(nn.ModuleList {encoder, decoder}, {lr = 0.001})

for epoch = 1, settings.epochs do
  local total, count = 0, 0
  for x in fp8.data.batches({images}, {batch = 200, shuffle = true, seed = epoch}) do
    x = x:float() / 255
    local mean, log_variance = unpack(encoder(x):chunk(2, -1))
    local code = mean + (log_variance / 2):exp() * fp8.randn_like(mean)
    local reconstruction = fp8.binary_cross_entropy_with_logits(decoder(code), x, {reduction = "sum"})
    local divergence = (mean:square() + log_variance:exp() - log_variance - 1):sum() / 2
    local loss = (reconstruction + divergence) / x:size(1)
    optimizer:zero_grad()
    loss:backward()
    optimizer:step()
    total, count = total + loss:detach(), count + 1
  end
  print(("epoch %d: %.2f nats an image, at most"):format(epoch, total:item() / count))
end
local image = fp8.no_grad(decoder, fp8.randn(1, latent)):sigmoid():view(28, 28):cpu()
local shades = " .:-=+*#%@"
for _, row in ipairs(image:view(14, 2, 28):mean(2):mul(9.99):floor():totable()) do
  for i, shade in ipairs(row) do row[i] = shades:sub(shade + 1, shade + 1) end
  print(table.concat(row))
end

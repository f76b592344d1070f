--- The first principal components of Fashion-MNIST's images by power iteration: the directions of largest variance, and
-- how much of it they explain. Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "../lib/?.lua;" .. package.path
local fp8, options = require "fp8", require "options"

local kinds = options.kinds
local settings = options.read("pca",
  "usage: luajit examples/tasks/pca.lua [--components N] [--steps N] [--images N] [--device NAME]\n",
  {components = kinds.whole, steps = kinds.whole, images = kinds.whole, device = kinds.device},
  {components = 4, steps = 60, images = 10000, device = fp8.cuda.is_available() and "cuda" or "cpu"})
fp8.set_default_device(settings.device)
fp8.manual_seed(1)

local images = fp8.data.fashion_mnist("train", {device = settings.device})
images = images:narrow(1, 1, math.min(settings.images, images:size(1))):float() / 255
local centered = images - images:mean(1, true)
local covariance = centered:t():matmul(centered) / (centered:size(1) - 1)
local total = covariance:diag():sum()

local explained = 0
for i = 1, settings.components do
  local direction = fp8.randn(covariance:size(1))
  for _ = 1, settings.steps do
    direction = covariance:mv(direction)
    direction = direction / direction:norm()
  end
  local variance = direction:dot(covariance:mv(direction))
  covariance = covariance - variance * direction:outer(direction) -- what the other directions explain
  explained = explained + variance / total
  print(("component %d: variance %.3f, %.1f%% explained so far"):format(i, variance:item(), 100 * explained:item()))
end

--- k-means of Fashion-MNIST's images, and how well the clusters fit the classes. Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "../lib/?.lua;" .. package.path
local fp8, options = require "fp8", require "options"

local kinds = options.kinds
local settings = options.read("kmeans",
  "usage: luajit examples/tasks/kmeans.lua [--clusters N] [--steps N] [--images N] [--device NAME]\n",
  {clusters = kinds.whole, steps = kinds.whole, images = kinds.whole, device = kinds.device},
  {clusters = 20, steps = 15, images = 10000, device = fp8.cuda.is_available() and "cuda" or "cpu"})
local clusters = settings.clusters
fp8.set_default_device(settings.device)
fp8.manual_seed(1)

local images, labels = fp8.data.fashion_mnist("train", {device = settings.device})
local count = math.min(settings.images, images:size(1))
local x = images:narrow(1, 1, count):float() / 255
labels = labels:narrow(1, 1, count)

local centers = x:index_select(1, fp8.randint(0, count, {clusters})) -- positions in tensors count from 0
local nearest
for step = 1, settings.steps do
  local distances = x:square():sum(2, true) - x:matmul(centers:t()) * 2 + centers:square():sum(2)
  local smallest
  smallest, nearest = distances:min(2), distances:argmin(2)
  local members = fp8.one_hot(nearest, clusters):float()
  centers = members:t():matmul(x) / members:sum(1):clamp(1, count):unsqueeze(2)
  if step % 5 == 0 or step == settings.steps then
    print(("step %d: mean squared distance %.3f"):format(step, smallest:mean():item()))
  end
end
local pairs_of = fp8.one_hot(nearest, clusters):float():t():matmul(fp8.one_hot(labels, 10):float())
print(("%.1f%% in a cluster whose commonest class is theirs"):format(100 * pairs_of:max(2):sum():item() / count))

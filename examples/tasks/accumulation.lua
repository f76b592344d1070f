--- Gradient accumulation: a batch in parts gives the gradients of the whole batch, with the memory of a part.
-- Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "../lib/?.lua;" .. package.path
local fp8, options = require "fp8", require "options"

local kinds, nn = options.kinds, fp8.nn
local settings = options.read("accumulation",
  "usage: luajit examples/tasks/accumulation.lua [--batch N] [--parts N] [--width N] [--device NAME]\n",
  {batch = kinds.whole, parts = kinds.whole, width = kinds.whole, device = kinds.device},
  {batch = 4096, parts = 8, width = 512, device = fp8.cuda.is_available() and "cuda" or "cpu"})
local width, parts, device = settings.width, settings.parts, settings.device
fp8.set_default_device(device)
fp8.manual_seed(1)

local model = nn.Sequential(fp8.Linear(width, width), nn.GELU(), fp8.Linear(width, width), nn.GELU(),
  fp8.Linear(width, 10))
local x, target = fp8.randn(settings.batch, width), fp8.randint(0, 10, {settings.batch})

--- The gradients of the mean loss, taken in so many parts, and the most memory that it took, in MiB.
local function gradients(count)
  model:zero_grad()
  fp8.reset_peak_memory(device)
  local inputs, targets = x:chunk(count, 1), target:chunk(count, 1)
  for i, part in ipairs(inputs) do
    fp8.scope(function()
      local loss = fp8.cross_entropy(model(part), targets[i]) * (part:size(1) / settings.batch)
      loss:backward() -- adds to the gradients that are there
    end)
  end
  local all = {}
  for i, parameter in ipairs(model:parameters()) do all[i] = parameter.grad:clone() end
  return all, fp8.memory(device).peak / 2 ^ 20
end

local whole, memory = gradients(1)
print(("1 part: at most %.1f MiB"):format(memory))
local summed, less = gradients(parts)
local difference = 0
for i, grad in ipairs(summed) do
  difference = math.max(difference, ((grad - whole[i]):norm() / whole[i]:norm()):item())
end
print(("%d parts: at most %.1f MiB, gradients differ by %.1e"):format(parts, less, difference))

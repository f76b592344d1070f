--- Logistic regression on a file of comma-separated numbers whose last column is the class, 0 or 1. Without --csv, on
-- made-up measurements of two kinds of leaves. Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "../lib/?.lua;" .. package.path
local fp8, options = require "fp8", require "options"

local kinds = options.kinds
local settings = options.read("logistic_regression",
  "usage: luajit examples/tasks/logistic_regression.lua [--csv FILE] [--steps N] [--device NAME]\n",
  {csv = kinds.path, steps = kinds.whole, device = kinds.device},
  {steps = 200, device = fp8.cuda.is_available() and "cuda" or "cpu"})
fp8.set_default_device(settings.device)
fp8.manual_seed(1)

local rows = {}
for line in settings.csv and io.lines(settings.csv) or function() end do
  local row = {}
  for field in line:gmatch "[^,]+" do row[#row + 1] = tonumber(field) end
  if #row > 0 then rows[#rows + 1] = row end -- a heading has no numbers
end
local function leaves(class, length, width)
  local sizes = fp8.randn(100, 2) * 0.6 + fp8.tensor {length, width}
  return fp8.cat({sizes, fp8.full({100, 1}, class)}, 2)
end
local data = rows[1] and fp8.tensor(rows) or fp8.cat({leaves(0, 5, 3.4), leaves(1, 6.5, 2.8)}, 1)

local features = data:size(2) - 1
local x, target = data:narrow(2, 1, features), data:narrow(2, features + 1, 1)
x = (x - x:mean(1, true)) / x:std(1, {keepdim = true})
local model = fp8.Linear(features, 1)
local optimizer = fp8.optim.SGD(model, {lr = 0.5})
for step = 1, settings.steps do
  optimizer:zero_grad()
  local loss = fp8.binary_cross_entropy_with_logits(model(x), target)
  loss:backward()
  optimizer:step()
  if step % 50 == 0 or step == settings.steps then print(("step %d: loss %.4f"):format(step, loss:item())) end
end
local right = fp8.no_grad(model, x):gt(0):eq(target:gt(0.5)):float():mean()
print(("%d rows, %.1f%% right"):format(data:size(1), 100 * right:item()))

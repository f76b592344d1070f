--- Pooling as modules: fp8.nn.MaxPool2d(kernel_size, options) gives fp8.max_pool2d(x, kernel_size, options), and so do
-- the others, with their arguments: fp8.nn.MaxPool1d, AvgPool1d and AvgPool2d, and with the size of the result
-- fp8.nn.AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveMaxPool1d and AdaptiveMaxPool2d. As in PyTorch arguments are
-- looked at when there is an input.
--   fp8.nn.MaxPool1d(2)(fp8.tensor {{1, 3, 2, 0}}) --> {{3, 2}}
--   fp8.nn.MaxPool2d(2)(fp8.randn(1, 3, 8, 8)).shape --> {1, 3, 4, 4}
--   fp8.nn.AvgPool1d(2)(fp8.tensor {{1, 3, 2, 0}}) --> {{2, 1}}
--   fp8.nn.AvgPool2d(2, {stride = 1})(fp8.randn(1, 3, 8, 8)).shape --> {1, 3, 7, 7}
--   fp8.nn.AdaptiveAvgPool1d(1)(fp8.tensor {{1, 3, 2, 0}}) --> {{1.5}}
--   fp8.nn.AdaptiveAvgPool2d(1)(fp8.randn(1, 3, 8, 8)).shape --> {1, 3, 1, 1}
--   fp8.nn.AdaptiveMaxPool1d(2)(fp8.tensor {{1, 3, 2, 0}}) --> {{3, 2}}
--   fp8.nn.AdaptiveMaxPool2d(2)(fp8.randn(1, 3, 8, 8)).shape --> {1, 3, 2, 2}
local check_one = require("fp8.nn.arguments").check_one
local Module = require "fp8.nn.module"
local pool = require "fp8.ops.patches.pool"

local pooling = {}

local function text_of(value)
  if type(value) ~= "table" then return tostring(value) end
  local parts = {}
  for i, element in ipairs(value) do parts[i] = tostring(element) end
  local options = {}
  for name, option in pairs(value) do
    if type(name) == "string" then options[#options + 1] = ("%s = %s"):format(name, text_of(option)) end
  end
  table.sort(options)
  for _, option in ipairs(options) do parts[#parts + 1] = option end
  return ("{%s}"):format(table.concat(parts, ", "))
end

for class_name, name in pairs {
  MaxPool1d = "max_pool1d", MaxPool2d = "max_pool2d", AvgPool1d = "avg_pool1d", AvgPool2d = "avg_pool2d",
  AdaptiveAvgPool1d = "adaptive_avg_pool1d", AdaptiveAvgPool2d = "adaptive_avg_pool2d",
  AdaptiveMaxPool1d = "adaptive_max_pool1d", AdaptiveMaxPool2d = "adaptive_max_pool2d",
} do
  local operation = pool[name]
  local Pool = Module:extend(class_name)
  Pool.unsearched = {arguments = true}

  function Pool:init(...)
    self.arguments, self.count = {...}, select("#", ...)
  end

  function Pool:forward(x, ...)
    check_one(self, "one tensor", ...)
    return operation(x, unpack(self.arguments, 1, self.count))
  end

  function Pool:description()
    local texts = {}
    for i = 1, self.count do texts[i] = text_of(self.arguments[i]) end
    return table.concat(texts, ", ")
  end

  pooling[class_name] = Pool
end

return pooling

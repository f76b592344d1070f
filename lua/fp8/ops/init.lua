--- The operations: every one is a function of fp8, and those that take a tensor first are its methods by the same
-- name.
local public = require "fp8.public"

local operations = {functions = {}, methods = {}}

-- The arguments of those that don't tell how many they take; what is not here takes sizes or checks the number itself.
local counts = {
  eq = 2, ne = 2, lt = 2, le = 2, gt = 2, ge = 2, isnan = 1, isinf = 1, isfinite = 1, logical_not = 1,
  argmax = 3, nonzero = 1, argwhere = 1, copy_ = 2, fill_ = 2, zero_ = 1, masked_scatter = 3, index_copy = 4,
  index_fill = 4, index_add = 5, bernoulli_ = 2,
}

-- In place an operation takes what it takes elsewhere.
local function count_of(family, name)
  local elsewhere = family[name:match "^(.*)_$"]
  if counts[name] or not elsewhere then return counts[name] end
  local other = counts[name:match "^(.*)_$"] or public.most_of(elsewhere)
  return math.min(public.most_of(family[name]), other)
end

-- The first operand of these may be a number.
local numbers_first = {bucketize = true}
for _, name in ipairs {"binary", "choice"} do
  for operation in next, require("fp8.ops.elementwise." .. name) do numbers_first[operation] = true end
end

local function add(target, family, takes_tensors)
  for name, operation in next, family do
    target[name] = public.operation(name, operation, count_of(family, name), takes_tensors and not numbers_first[name])
  end
end

for _, name in ipairs {
  "elementwise", "view", "arrange", "copy", "reduce", "statistics", "softmax", "matmul", "triangle", "index",
  "random", "order.scan", "order.sort", "order.quantile", "patches", "order.select", "order.unique",
  "order.search", "order.count", "order.sample", "order.running", "like", "omitting", "correlation",
} do
  add(operations.methods, require("fp8.ops." .. name), true)
end
operations.methods.to_options = nil -- takes no tensor
for name, operation in next, operations.methods do operations.functions[name] = operation end
for _, name in ipairs {"create", "join", "losses", "matmul.einsum", "normalize"} do
  add(operations.functions, require("fp8.ops." .. name))
end
operations.methods.one_hot = operations.functions.one_hot

return operations

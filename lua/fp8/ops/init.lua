--- The operations: every one is a function of fp8, and those that take a tensor first are its methods by the same
-- name.
local operations = {functions = {}, methods = {}}

local function add(target, family)
  for name, operation in next, family do target[name] = operation end
end

for _, name in ipairs {
  "elementwise", "view", "arrange", "copy", "reduce", "statistics", "softmax", "matmul", "triangle", "index",
  "random", "order.scan", "order.sort", "order.quantile", "patches", "order.select", "order.unique",
  "order.search", "order.count", "order.sample", "order.running", "like", "omitting", "correlation",
} do
  add(operations.methods, require("fp8.ops." .. name))
end
operations.methods.to_options = nil -- takes no tensor
add(operations.functions, operations.methods)
for _, name in ipairs {"create", "join", "losses", "matmul.einsum", "normalize"} do
  add(operations.functions, require("fp8.ops." .. name))
end

return operations

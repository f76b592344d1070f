--- Products of matrices and vectors. einsum.lua takes a text first, and is a function of fp8 only.
local matmul = {}
for _, part in ipairs {"matmul", "products", "tensor_products"} do
  for name, operation in next, require("fp8.ops.matmul." .. part) do matmul[name] = operation end
end
return matmul

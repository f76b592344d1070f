--- Products with a transposed operand. The view of it is freed, or it would hold memory that is freed next until the
-- collector finds it.
local core = require "fp8.core"

local free, matmul, transpose = core.free, core.matmul, core.transpose

local products = {}

--- a · bᵀ + bias, of the last two dimensions; the result has `dtype`, or that of the operands.
function products.times_transposed(a, b, bias, dtype)
  local turned = transpose(b, -1, -2)
  local y = matmul(a, turned, bias, dtype)
  free(turned)
  return y
end

--- aᵀ · b, of the last two dimensions; the result has `dtype`, or that of the operands.
function products.transposed_times(a, b, dtype)
  local turned = transpose(a, -1, -2)
  local y = matmul(turned, b, nil, dtype)
  free(turned)
  return y
end

return products

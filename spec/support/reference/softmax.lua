--- Softmax in double.
local softmax = {}

--- softmax(scale · x) of a list, of which only the first `seen` elements count: the others get 0.
function softmax.forward(x, scale, seen)
  scale, seen = scale or 1, seen or #x
  local largest, sum, y = -math.huge, 0, {}
  for j = 1, seen do largest = math.max(largest, scale * x[j]) end
  for j = 1, seen do sum = sum + math.exp(scale * x[j] - largest) end
  for j = 1, #x do y[j] = j <= seen and math.exp(scale * x[j] - largest) / sum or 0 end
  return y
end

--- The derivative by x from y and that by y, which is 0 where it is masked.
function softmax.backward(y, dy, scale)
  local product, dx = 0, {}
  for j = 1, #y do product = product + y[j] * dy[j] end
  for j = 1, #y do dx[j] = scale * y[j] * (dy[j] - product) end
  return dx
end

--- Softmax of each row of a matrix as lists; if it is causal, the last row sees all keys, and each row one more than
-- the row before.
function softmax.rows(x, scale, causal)
  local y = {}
  for i = 1, #x do y[i] = softmax.forward(x[i], scale, causal and #x[1] - #x + i or nil) end
  return y
end

--- The derivative of `rows`.
function softmax.rows_backward(y, dy, scale)
  local dx = {}
  for i = 1, #y do dx[i] = softmax.backward(y[i], dy[i], scale) end
  return dx
end

return softmax

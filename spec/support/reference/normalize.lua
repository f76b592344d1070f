--- Layer and root mean square normalization, and their derivatives, in double.

--- y, dx, dweight and dbias from lists.
-- @param x, dy    `rows` rows of `columns`
-- @param weight, bias lists of `columns`, or nil
-- @param centered true for layer normalization, false for root mean square
return function(x, weight, bias, dy, rows, columns, epsilon, centered)
  local y, dx, dweight, dbias = {}, {}, {}, {}
  for i = 1, columns do dweight[i], dbias[i] = 0, 0 end
  for row = 0, rows - 1 do
    local at, mean, square, mean_grad, mean_product = row * columns, 0, 0, 0, 0
    for i = 1, columns do mean = mean + (centered and x[at + i] / columns or 0) end
    for i = 1, columns do square = square + (x[at + i] - mean) ^ 2 / columns end
    local inverse = 1 / math.sqrt(square + epsilon)
    for i = 1, columns do
      local n = (x[at + i] - mean) * inverse
      y[at + i] = n * (weight and weight[i] or 1) + (bias and bias[i] or 0)
      local grad = dy[at + i] * (weight and weight[i] or 1)
      mean_grad = mean_grad + (centered and grad / columns or 0)
      mean_product = mean_product + grad * n / columns
      dweight[i], dbias[i] = dweight[i] + dy[at + i] * n, dbias[i] + dy[at + i]
    end
    for i = 1, columns do
      local n = (x[at + i] - mean) * inverse
      dx[at + i] = inverse * (dy[at + i] * (weight and weight[i] or 1) - mean_grad - n * mean_product)
    end
  end
  return y, dx, dweight, dbias
end

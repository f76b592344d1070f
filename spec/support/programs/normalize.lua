--- Normalization.
local bound = require "spec.support.reference.bound"
local operation = require "spec.support.programs.operation"
local tensor = require "spec.support.reference.tensor"

local new, map, var, all_finite = operation.new, operation.map, operation.var, operation.all_finite
local exact, add, sub, mul, div = bound.exact, bound.add, bound.sub, bound.mul, bound.div

local operations = {}

-- (x - mean) · inverse of a row, and inverse. The sums are float64 but for a GPU's where the mean is less than 16 times
-- the deviation: float32 loses nothing that counts there.
local function normalized(values, epsilon, centered)
  local mean, square, n = 0, 0, #values
  for _, value in ipairs(values) do mean = mean + (centered and value / n or 0) end
  local largest, magnitudes = 0, 0
  for _, value in ipairs(values) do
    largest, magnitudes = math.max(largest, math.abs(value)), magnitudes + math.abs(value)
  end
  for _, value in ipairs(values) do square = square + (value - mean) ^ 2 / n end
  -- What is left of the mean's rounding, and the error that it makes in the root.
  -- (What it is subtracted from is halved before, which rounds the smallest numbers: three times, and the mean itself.)
  local deviation, rounding = math.sqrt(square + epsilon), (n + 2) * 2 ^ -24
  local in_float32 = math.abs(mean) <= 17 * deviation and magnitudes / n * rounding or 0
  local mean_error = (centered and largest * 2 ^ -46 + in_float32 or 0) + 4 * 2 ^ -149
  -- A deviation that is of the size of the mean's rounding is unknown.
  local inverse = 1 / deviation
  local off = mean_error > deviation / 2 and math.huge or
    inverse * (mean_error / deviation) * 2 + inverse * (3e-7 + rounding)
  local inverse_bound = bound.within(inverse, off)
  return map(function(value)
    return mul(add(bound.within(value - mean, mean_error), exact(0)), inverse_bound)
  end, values), inverse_bound
end

local function row_of(list, i, columns) return {unpack(list, i * columns + 1, (i + 1) * columns)} end

-- Arguments x, weight, bias (layer_norm's only) and epsilon.
local function normalization(centered)
  local function split(x, weight, bias, epsilon)
    if not centered then weight, bias, epsilon = weight, nil, bias end
    return x, weight, bias, epsilon or 1e-5
  end
  local function parameter(g, x)
    if g.random(3) == 1 then return nil end
    local own = g.tensor(x)
    return var(g.leaf(g.random(2) == 1 and own.dtype or "f32", {own.shape[#own.shape]}, {grad = true}))
  end
  return {
    text = "function",
    takes = function(x) return operation.is_computable(x) and #x.shape > 0 and x.shape[#x.shape] > 0 end,
    make = function(g, x)
      local epsilon = g.pick {1e-5, 0.1, 1e-3}
      if not centered then return {var(x), parameter(g, x), g.random(2) == 1 and epsilon or nil, count = 3} end
      return {var(x), parameter(g, x), parameter(g, x), g.random(2) == 1 and epsilon or nil, count = 4}
    end,
    compute = function(...)
      local x, weight, bias, epsilon = split(...)
      local columns, list, result = x.shape[#x.shape], tensor.list(x), {}
      local factors, terms = weight and tensor.list(weight), bias and tensor.list(bias)
      for i = 0, tensor.count(x.shape) / columns - 1 do
        local row = row_of(list, i, columns)
        local y = all_finite(row) and normalized(row, epsilon, centered)
        for k = 1, columns do
          local value = y and y[k]
          if value and weight then value = mul(value, exact(factors[k])) end
          if value and bias then value = add(value, exact(terms[k])) end
          result[i * columns + k] = value
        end
      end
      return new(x.dtype, x.shape, result, true)
    end,
    gradient = function(node, dy)
      local x, weight, bias, epsilon = split(unpack(node.arguments, 1, 4))
      local columns, list, factors = x.shape[#x.shape], tensor.list(x), weight and tensor.list(weight)
      local dx, weight_terms, bias_terms = {}, {}, {}
      for k = 1, columns do weight_terms[k], bias_terms[k] = {}, {} end
      for i = 0, tensor.count(x.shape) / columns - 1 do
        local row, dy_row = row_of(list, i, columns), row_of(dy, i, columns)
        local y, inverse = normalized(row, epsilon, centered)
        local g = map(function(dy_k, factor) return factor and mul(dy_k, exact(factor)) or dy_k end, dy_row,
          factors or {})
        local count = exact(columns)
        local mean_g = centered and div(bound.sum(g), count) or exact(0)
        local mean_product = div(bound.dot(g, y), count)
        for k = 1, columns do
          dx[i * columns + k] = mul(inverse, sub(sub(g[k], mean_g), mul(y[k], mean_product)))
          table.insert(weight_terms[k], mul(dy_row[k], y[k]))
          table.insert(bias_terms[k], dy_row[k])
        end
      end
      local dweight = weight and map(bound.sum, weight_terms) or nil
      local dbias = bias and map(bound.sum, bias_terms) or nil
      if dweight then dweight.shape = {columns} end
      if dbias then dbias.shape = {columns} end
      return {dx, dweight, dbias}
    end,
  }
end

operations.layer_norm, operations.rms_norm = normalization(true), normalization(false)

return operations

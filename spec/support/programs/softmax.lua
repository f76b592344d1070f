--- Softmax, and the loss that is made of it.
local bound = require "spec.support.reference.bound"
local operation = require "spec.support.programs.operation"
local tensor = require "spec.support.reference.tensor"

local new, map, var, at = operation.new, operation.map, operation.var, operation.at
local all_finite, is_float, from_first = operation.all_finite, operation.is_float, operation.from_first
local exact, sub, mul, div = bound.exact, bound.sub, bound.mul, bound.div

local operations = {}

-- Whether a row gives NaN throughout.
local function is_broken(values)
  local largest = -math.huge
  for _, value in ipairs(values) do
    if value ~= value or value == math.huge then return true end
    largest = math.max(largest, value)
  end
  return largest == -math.huge
end

--- The exponentials of a row of bounds minus their maximum, their sum, and the differences themselves. Of 16-bit rows a
-- GPU takes the exponential of its hardware, which is off by up to 1.17 |x| units in the last place more.
local function exponentials(row, dtype)
  local largest, off = -math.huge, (dtype == "f16" or dtype == "bf16") and 1.2 * 2 ^ -23 or 0
  for _, a in ipairs(row) do largest = math.max(largest, a[1]) end
  local differences = map(function(a)
    if a[1] == -math.huge then return exact(-1e30) end
    local difference = sub(a, exact(largest))
    return bound.within(difference[1], difference[2] + math.abs(difference[1]) * off)
  end, row)
  local powers = map(bound.exp, differences)
  return powers, bound.sum(powers), differences
end

local function softmax(row, dtype)
  local powers, sum = exponentials(row, dtype)
  return map(function(power)
    local share = div(power, sum)
    return bound.within(share[1], share[2] + 2 ^ -126)
  end, powers)
end

-- @param rescales how often the sum so far may be multiplied with e to the difference of two maxima, or nil
local function log_softmax(row, dtype, rescales)
  local _, sum, differences = exponentials(row, dtype)
  sum = bound.within(sum[1], sum[2] + sum[1] * (rescales or 0) * 6e-7)
  return map(function(difference, a)
    return a[1] == -math.huge and a[1] or sub(difference, bound.log(sum))
  end, differences, row)
end

local function softmax_gradient(g, y, to)
  local product = bound.dot(g, y)
  return map(function(dy, p) return to(mul(p, sub(dy, product))) end, g, y)
end

local function log_softmax_gradient(g, y, to)
  local sum = bound.sum(g)
  return map(function(dy, logarithm) return to(sub(dy, mul(bound.exp(logarithm), sum))) end, g, y)
end

-- -∞ as a bound stays what it is, for the functions above to see.
local function bound_of(value) return {value, 0} end

local function along_dimension(forward, backward)
  local function rows_of(x, d) return operation.rows(x.shape, {[from_first(d, #x.shape)] = true}) end
  return {
    takes = function(x) return is_float(x) and operation.has_dimension(x) end,
    make = function(g, x) return {var(x), operation.dimension(g, #g.tensor(x).shape)} end,
    compute = function(x, d)
      local list, result = tensor.list(x), {}
      for _, positions in ipairs(rows_of(x, d)) do
        local values = at(list, positions)
        local y = not is_broken(values) and forward(map(bound_of, values), x.dtype)
        for k, position in ipairs(positions) do
          result[position] = not y and 0 / 0 or y[k]
        end
      end
      return new(x.dtype, x.shape, operation.stored(result, x.dtype), true)
    end,
    gradient = function(node, dy)
      local x, d = unpack(node.arguments)
      local list, result = tensor.list(x), {}
      local function to(a) return bound.to(x.dtype, a) end
      for _, positions in ipairs(rows_of(x, d)) do
        local values = at(list, positions)
        local y = all_finite(values) and map(to, forward(map(exact, values), x.dtype))
        local slopes = y and backward(at(dy, positions), y, to)
        for k, position in ipairs(positions) do result[position] = slopes and slopes[k] or {0, math.huge} end
      end
      return {result}
    end,
  }
end

operations.softmax = along_dimension(softmax, softmax_gradient)
operations.log_softmax = along_dimension(log_softmax, log_softmax_gradient)

--- --- losses ---

local function losses(logits, targets)
  local classes, list, labels, result = logits.shape[2], tensor.list(logits), tensor.list(targets), {}
  for i = 1, logits.shape[1] do
    local row = {unpack(list, (i - 1) * classes + 1, i * classes)}
    if is_broken(row) then
      result[i] = 0 / 0
    else
      local y = log_softmax(map(bound_of, row), logits.dtype, classes)[tonumber(labels[i]) + 1]
      result[i] = type(y) == "number" and -y or bound.neg(y)
    end
  end
  return result
end

operations.cross_entropy = {
  text = "function",
  takes = function(x) return is_float(x) and #x.shape == 2 and x.shape[2] > 0 end,
  make = function(g, x)
    local shape = g.tensor(x).shape
    local targets = g.leaf(g.pick {"i64", "i32", "u8"}, {shape[1]}, {below = shape[2]})
    return {var(x), var(targets), {reduction = g.pick {"none", "mean", "sum"}}}
  end,
  compute = function(logits, targets, options)
    local list = losses(logits, targets)
    if options.reduction == "none" then return new("f32", {#list}, list, true) end
    -- A loss is float32 before they are added up.
    local terms, broken = {}, #list == 0 and options.reduction == "mean"
    for i, loss in ipairs(list) do
      broken = broken or type(loss) == "number"
      terms[i] = type(loss) ~= "number" and bound.to("f32", loss)
    end
    if broken then return new("f32", {}, {#list == 0 and 0 / 0 or false}) end
    local sum = bound.sum(terms)
    return new("f32", {}, {options.reduction == "mean" and div(sum, exact(#list)) or sum}, true)
  end,
  gradient = function(node, dy)
    local logits, targets, options = unpack(node.arguments)
    local rows, classes = unpack(logits.shape)
    local list, labels, result = tensor.list(logits), tensor.list(targets), {shape = logits.shape}
    for i = 0, rows - 1 do
      local g = options.reduction == "none" and dy[i + 1] or dy[1]
      if options.reduction == "mean" then g = mul(g, bound.to("f32", exact(1 / rows))) end
      local values = {unpack(list, i * classes + 1, (i + 1) * classes)}
      local p = all_finite(values) and softmax(map(exact, values), logits.dtype)
      for k = 1, classes do
        local chosen = tonumber(labels[i + 1]) + 1 == k
        result[i * classes + k] = p and mul(sub(p[k], exact(chosen and 1 or 0)), g) or {0, math.huge}
      end
    end
    return {result}
  end,
}

return {operations = operations, softmax = softmax, softmax_gradient = softmax_gradient}

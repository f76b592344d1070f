--- Elementwise operations in double, broadcasting, and the dtypes of results.
local elementwise = {}

local function erf(x)
  -- Abramowitz and Stegun 7.1.5, a series that converges everywhere; 90 terms suffice up to |x| = 4.
  local sum, term = 0, x
  for n = 0, 90 do
    sum = sum + term / (2 * n + 1)
    term = -term * x * x / (n + 1)
  end
  return 2 / math.sqrt(math.pi) * sum
end

local function bool(condition) return condition and 1 or 0 end

--- Functions of one number, by the operation's name.
elementwise.unary = {
  neg = function(x) return -x end,
  abs = math.abs,
  exp = math.exp,
  log = function(x) return x < 0 and 0 / 0 or math.log(x) end,
  sqrt = function(x) return x < 0 and 0 / 0 or math.sqrt(x) end,
  rsqrt = function(x) return x < 0 and 0 / 0 or 1 / math.sqrt(x) end,
  sin = math.sin,
  tanh = math.tanh,
  sigmoid = function(x) return 1 / (1 + math.exp(-x)) end,
  relu = function(x) return math.max(x, 0) end,
  gelu = function(x) return 0.5 * x * (1 + erf(x / math.sqrt(2))) end,
}

--- Functions of two numbers of one kind (doubles, or int64_t), by the operation's name.
elementwise.binary = {
  add = function(a, b) return a + b end,
  sub = function(a, b) return a - b end,
  mul = function(a, b) return a * b end,
  div = function(a, b) return a / b end,
  maximum = function(a, b) return a > b and a or b end,
  minimum = function(a, b) return a < b and a or b end,
  eq = function(a, b) return bool(a == b) end,
  ne = function(a, b) return bool(a ~= b) end,
  lt = function(a, b) return bool(a < b) end,
  le = function(a, b) return bool(a <= b) end,
  gt = function(a, b) return bool(a > b) end,
  ge = function(a, b) return bool(a >= b) end,
}

--- Which of those compare: their results are u8.
elementwise.comparisons = {eq = true, ne = true, lt = true, le = true, gt = true, ge = true}

--- The shape that shapes a and b broadcast to.
function elementwise.broadcast(a, b)
  local shape = {}
  for d = 1, math.max(#a, #b) do
    local left, right = a[#a - d + 1] or 1, b[#b - d + 1] or 1
    table.insert(shape, 1, left == 1 and right or left)
  end
  return shape
end

--- The elements of a row-major list of shape `own` expanded to `shape`.
function elementwise.expand(list, own, shape)
  local strides, stride = {}, 1
  for d = #own, 1, -1 do
    strides[d] = own[d] == 1 and 0 or stride
    stride = stride * own[d]
  end
  local added, result = #shape - #own, {}
  local function walk(d, offset)
    if d > #shape then
      table.insert(result, list[offset + 1])
      return
    end
    local step = d > added and strides[d - added] or 0
    for i = 0, shape[d] - 1 do walk(d + 1, offset + i * step) end
  end
  walk(1, 0)
  return result
end

local rank = {e4m3 = 1, e5m2 = 1, f16 = 2, bf16 = 2, f32 = 3, u8 = 1, i32 = 2, i64 = 3}

--- The dtype of the result for operands of dtypes a and b.
function elementwise.promoted(a, b)
  local a_float, b_float = a:match "^[fbe]" ~= nil, b:match "^[fbe]" ~= nil
  if a == b then return a end
  if a_float ~= b_float then return a_float and a or b end
  if not a_float then return rank[a] > rank[b] and a or b end
  if rank[a] == rank[b] then return rank[a] == 1 and "f16" or "f32" end
  return rank[a] > rank[b] and a or b
end

return elementwise

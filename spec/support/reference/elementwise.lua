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

local function nearest_even(x)
  local floor = math.floor(x)
  local rest = x - floor
  if rest == 0.5 then return floor + floor % 2 end
  return rest < 0.5 and floor or floor + 1
end

-- ln(1 + x) and e^x - 1: of small x by the first terms of their series.
local function log1p(x)
  if x < -1 then return 0 / 0 end
  return math.abs(x) < 1e-4 and x - x * x / 2 + x ^ 3 / 3 or math.log(1 + x)
end

local function expm1(x)
  return math.abs(x) < 1e-4 and x + x * x / 2 + x ^ 3 / 6 or math.exp(x) - 1
end

local function or_nan(f)
  return function(x) return x < 0 and 0 / 0 or f(x) end
end

--- Functions of one number, by the operation's name.
elementwise.unary = {
  sign = function(x) return x > 0 and 1 or x < 0 and -1 or 0 end,
  floor = math.floor,
  ceil = math.ceil,
  round = nearest_even,
  trunc = function(x) return x < 0 and math.ceil(x) or math.floor(x) end,
  square = function(x) return x * x end,
  reciprocal = function(x) return 1 / x end,
  expm1 = expm1,
  log1p = log1p,
  log2 = or_nan(function(x) return math.log(x) / math.log(2) end),
  log10 = or_nan(math.log10),
  cos = math.cos,
  tan = math.tan,
  -- The series loses its digits further out.
  erf = function(x) return math.abs(x) > 4 and (x > 0 and 1 or -1) or erf(x) end,
  elu = function(x) return x > 0 and x or expm1(x) end,
  softplus = function(x) return math.max(x, 0) + log1p(math.exp(-math.abs(x))) end,
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
  atan2 = function(a, b) return math.atan2(a, b) end,
  hypot = function(a, b) return math.sqrt(a * a + b * b) end,
  maximum = function(a, b) return a > b and a or b end,
  minimum = function(a, b) return a < b and a or b end,
  eq = function(a, b) return bool(a == b) end,
  ne = function(a, b) return bool(a ~= b) end,
  lt = function(a, b) return bool(a < b) end,
  le = function(a, b) return bool(a <= b) end,
  gt = function(a, b) return bool(a > b) end,
  ge = function(a, b) return bool(a >= b) end,
  logical_and = function(a, b) return bool(a ~= 0 and b ~= 0) end,
  logical_or = function(a, b) return bool(a ~= 0 or b ~= 0) end,
  logical_xor = function(a, b) return bool((a ~= 0) ~= (b ~= 0)) end,
}

--- Which of those give fractions: f32 for integers.
elementwise.fractions = {div = true, atan2 = true, hypot = true}

--- a - b · floor(a / b), of doubles or of int64_t; of integers by 0 it is 0.
function elementwise.remainder(a, b)
  if type(a) ~= "cdata" then
    local rest = math.fmod(a, b)
    return rest ~= 0 and (rest < 0) ~= (b < 0) and rest + b or rest
  end
  if b == 0 or b == -1 then return 0LL end
  local rest = a - a / b * b -- the quotient goes towards zero
  return rest ~= 0 and (rest < 0) ~= (b < 0) and rest + b or rest
end

--- Which of those compare: their results are u8.
elementwise.comparisons = {
  eq = true, ne = true, lt = true, le = true, gt = true, ge = true,
  logical_and = true, logical_or = true, logical_xor = true,
}

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

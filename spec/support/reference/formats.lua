--- Small formats, scales and Hadamard transforms in plain Lua: what reference/init.lua says of numbers holds here too.
local ffi = require "ffi"

local formats = {}

local cell = ffi.new "float[1]"
local function f32(x)
  cell[0] = x
  return cell[0]
end

local largest_float = (2 - 2 ^ -23) * 2 ^ 127

--- By name: largest number, exponent of the largest power of two, mantissa bits.
formats.largest = {e4m3 = 448, e5m2 = 57344, e2m1 = 6, e2m3 = 7.5, e3m2 = 28, int8 = 127, int4 = 7, nf4 = 1}
local exponents = {e4m3 = 8, e5m2 = 15, e2m1 = 2, e2m3 = 2, e3m2 = 4, int8 = 6, int4 = 2, nf4 = 0}
local mantissa_bits = {e4m3 = 3, e5m2 = 2, e2m1 = 1, e2m3 = 3, e3m2 = 2, int8 = 6, int4 = 2, nf4 = 0}

-- Of a list of all values, those that are not there twice or more being what a code is.
local nf4 = {
  -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
  -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
  0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1,
}

local function to_multiple(x, step)
  local steps = math.floor(x / step)
  local rest = x / step - steps
  if rest > 0.5 or (rest == 0.5 and steps % 2 == 1) then steps = steps + 1 end
  return steps * step
end

local function saturated(x, largest) return math.max(-largest, math.min(largest, x)) end

local function float(name, bits, smallest_exponent)
  return function(x)
    x = saturated(x, formats.largest[name])
    if x == 0 then return 0 end
    local _, exponent = math.frexp(x)
    return to_multiple(x, 2 ^ (math.max(exponent - 1, smallest_exponent) - bits))
  end
end

--- By name: a finite number as the format has it.
formats.round = {
  e2m1 = float("e2m1", 1, 0), e2m3 = float("e2m3", 3, 0), e3m2 = float("e3m2", 2, -2),
  int8 = function(x) return to_multiple(saturated(x, 127), 1) end,
  int4 = function(x) return to_multiple(saturated(x, 7), 1) end,
  nf4 = function(x)
    local code = 1
    while code < 16 do
      local midpoint = f32(f32(f32(nf4[code]) + f32(nf4[code + 1])) * 0.5)
      if x < midpoint or (x == midpoint and code % 2 == 1) then break end
      code = code + 1
    end
    return f32(nf4[code])
  end,
}

local function floor_log2(x)
  local _, exponent = math.frexp(x)
  return exponent - 1
end

local function e8m0(exponent) return 2 ^ math.max(-127, math.min(exponent, 127)) end

local rules = {
  mx = function(absmax, format)
    return absmax == 0 and e8m0(-127) or e8m0(math.max(floor_log2(absmax), -127) - (exponents[format] or 0))
  end,
  ceil = function(absmax, format)
    if absmax == 0 then return e8m0(-127) end
    local exponent = math.max(floor_log2(absmax), -127)
    if absmax ~= 2 ^ exponent then exponent = exponent + 1 end
    return e8m0(exponent - (exponents[format] or 0))
  end,
  even = function(absmax, format)
    if absmax == 0 then return e8m0(-127) end
    local exponent, bits = math.max(floor_log2(absmax), -127), mantissa_bits[format] or 0
    if absmax >= 2 ^ exponent * (2 - 2 ^ -(bits + 1)) then exponent = exponent + 1 end
    return e8m0(exponent - (exponents[format] or 0))
  end,
  rceil = function(scale)
    if scale <= 2 ^ -127 then return 2 ^ -127 end
    local exponent = floor_log2(scale)
    return e8m0(scale == 2 ^ exponent and exponent or exponent + 1)
  end,
  power_of_two = function(scale)
    if scale == 0 then return 0 end
    local exponent = floor_log2(scale)
    return math.max(2 ^ -126, e8m0(scale == 2 ^ exponent and exponent or exponent + 1))
  end,
}

--- The scale of a block with this absmax: of a map (a list) or a format's name, rounded as a recipe says.
-- @param more {headroom =, constant_scale =} or nil
function formats.scale(absmax, format, scale_rounding, more)
  if absmax ~= absmax or absmax == math.huge then return 0 / 0 end
  if more and more.constant_scale then return f32(more.constant_scale) end
  if more and more.headroom then absmax = math.min(f32(absmax * f32(more.headroom)), largest_float) end
  if scale_rounding == "mx" or scale_rounding == "ceil" or scale_rounding == "even" then
    return rules[scale_rounding](absmax, format)
  end
  local scale = f32(absmax / (formats.largest[format] or 1))
  return rules[scale_rounding] and rules[scale_rounding](scale) or scale
end

--- The scale of a block in E4M3 and what its elements are multiplied with, by Transformer Engine's rule for NVFP4.
-- @param absmax of the block
-- @param upper  absmax of all, or nil for one level
-- @param e4m3   a function that rounds to E4M3, saturating
-- @param most   the largest scale, 448 unless it is given
function formats.e4m3_scale(absmax, upper, format, e4m3, most)
  if absmax - absmax ~= 0 or upper and upper - upper ~= 0 then return 0 / 0, 0 end
  local largest = formats.largest[format] or 1
  local encode, decode, direct = f32(1 / largest), 1, false
  if upper then
    most = most or 448
    local factor = f32(most * largest / upper)
    direct = factor <= largest_float and upper <= largest_float / 448
    factor = math.min(factor, largest_float)
    encode, decode = f32(factor * encode), f32(1 / factor)
  end
  local stored = e4m3(f32(absmax * encode))
  local inverse = math.min(f32(1 / f32(stored * decode)), largest_float)
  local scale = direct and f32(f32(stored * upper) * f32(1 / (most * largest))) or f32(stored * decode)
  return scale, inverse
end

--- What counts in place of the absmax of a list of finite numbers, by a recipe's `range`, which may be nil.
function formats.range(x, absmax, range)
  if not range or absmax ~= absmax then return absmax end
  local squares, magnitudes = 0, 0
  for _, value in ipairs(x) do
    squares, magnitudes = squares + value ^ 2, magnitudes + math.abs(value)
  end
  local fitted = f32(range.root_mean_square or 0) * math.sqrt(squares / #x) +
    f32(range.mean_magnitude or 0) * (magnitudes / #x)
  return fitted > 0 and math.min(f32(math.min(fitted, 1e39)), largest_float) or absmax
end

--- The powers of two that a recipe's `smooth` divides by: for each row or column of a row-major list.
function formats.smoothing(x, side, rows, columns)
  local factors = {}
  for line = 0, (side == "row" and rows or columns) - 1 do
    local absmax = 0
    for i = 0, (side == "row" and columns or rows) - 1 do
      local magnitude = math.abs(x[side == "row" and line * columns + i + 1 or i * columns + line + 1])
      absmax = magnitude - magnitude == 0 and absmax == absmax and math.max(absmax, magnitude) or 0 / 0
    end
    factors[line + 1] = absmax == 0 and 1 or rules.power_of_two(absmax)
  end
  return factors
end

--- The Hadamard transform of groups of `length` along rows or, if `down`, columns of a row-major list.
-- @param signs    a list of 1 and -1, or nil
-- @param round_to what rounds to the dtype
function formats.hadamard(x, length, down, signs, shape, round_to)
  local rows, columns = shape[1], shape[2]
  local step, out = down and columns or 1, {}
  for i, value in ipairs(x) do out[i] = value end
  local long, lines = down and rows or columns, down and columns or rows
  for line = 0, lines - 1 do
    for group = 0, math.floor(long / length) - 1 do
      local first = (down and line or line * columns) + group * length * step + 1
      local y = {}
      for j = 0, length - 1 do
        local sum = 0
        for i = 0, length - 1 do
          local both, odd = require("bit").band(i, j), 1
          while both > 0 do
            if both % 2 == 1 then odd = -odd end
            both = math.floor(both / 2)
          end
          sum = sum + odd * x[first + i * step] * (signs and signs[i + 1] or 1)
        end
        y[j] = round_to(f32(sum / math.sqrt(length)))
      end
      for j = 0, length - 1 do out[first + j * step] = y[j] end
    end
  end
  return out
end

return formats

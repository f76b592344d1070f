--- The numeric rules in plain Lua and double arithmetic, slow and direct, for specs to compare with.
--
-- Doubles hold the exact product of two float32 values, and a sum or quotient rounded to double and then to float32 is
-- rounded correctly, so one conversion after an operation gives IEEE float32.
local ffi = require "ffi"
local formats = require "spec.support.reference.formats"

local reference = {}

local cell = ffi.new "float[1]"

--- x rounded to float32.
function reference.f32(x)
  cell[0] = x
  return cell[0]
end
local f32 = reference.f32

-- x rounded to nearest even with so many bits of fraction; below 2^smallest_exponent the step stays the same.
local function round(x, fraction_bits, smallest_exponent)
  if x ~= x or x == 0 or math.abs(x) == math.huge then return x end
  local _, exponent = math.frexp(x)
  local step = 2 ^ (math.max(exponent - 1, smallest_exponent) - fraction_bits)
  local steps = math.floor(x / step)
  local rest = x / step - steps
  if rest > 0.5 or (rest == 0.5 and steps % 2 == 1) then steps = steps + 1 end
  return steps == 0 and x < 0 and -0.0 or steps * step
end

local function saturated(x, largest)
  if x ~= x then return x end
  return math.max(-largest, math.min(largest, x))
end

--- x, a float32 value, rounded to a dtype.
reference.round = {
  f32 = f32,
  f16 = function(x)
    local rounded = round(x, 10, -14)
    return math.abs(rounded) > 65504 and rounded * math.huge or rounded
  end,
  bf16 = function(x) return f32(round(x, 7, -126)) end,
  e4m3 = function(x) return saturated(round(x, 3, -6), 448) end,
  e5m2 = function(x) return saturated(round(x, 2, -14), 57344) end,
}

--- The 256 values of create_map.
function reference.map(signed, exponent_bits, precision_bits)
  local values = {}
  local bias = 2 ^ (exponent_bits - 1)
  for exponent = 0, 2 ^ exponent_bits - 1 do
    for mantissa = 0, 2 ^ precision_bits - 1 do
      local fraction = mantissa / 2 ^ precision_bits
      local value = exponent == 0 and fraction * 2 ^ -bias or (1 + fraction) * 2 ^ (bias + 1 - exponent)
      table.insert(values, f32(value))
      if signed then table.insert(values, f32(-value)) end
    end
  end
  while #values < 256 do table.insert(values, 0) end
  table.sort(values)
  local largest = values[256]
  for i = 1, 256 do values[i] = f32(values[i] / largest) end
  return values
end

--- The code of the entry nearest to s, an even one on a tie.
function reference.nearest(map, s)
  local code = 0
  while code < 255 do
    local midpoint = f32(f32(map[code + 1] + map[code + 2]) * 0.5)
    if s < midpoint or (s == midpoint and code % 2 == 0) then break end
    code = code + 1
  end
  return code
end

--- Codes and absmax of blocks of a list of float32 values.
-- @param divide by absmax, as for whole tensors, rather than multiply by its reciprocal
function reference.quantize(x, map, blocksize, divide)
  local codes, absmax = {}, {}
  for start = 1, #x, blocksize do
    local largest, finish = 0, math.min(start + blocksize - 1, #x)
    for i = start, finish do
      if x[i] ~= x[i] or math.abs(x[i]) == math.huge then largest = 0 / 0 end
      if largest == largest then largest = math.max(largest, math.abs(x[i])) end
    end
    table.insert(absmax, largest)
    local inverse = f32(1 / largest)
    for i = start, finish do
      local s = 0
      if largest > 0 then s = (divide or inverse == math.huge) and f32(x[i] / largest) or f32(x[i] * inverse) end
      codes[i] = reference.nearest(map, s)
    end
  end
  return codes, absmax
end

--- The values of such codes.
function reference.dequantize(codes, absmax, map, blocksize)
  local result = {}
  for i, code in ipairs(codes) do result[i] = f32(map[code + 1] * absmax[math.floor((i - 1) / blocksize) + 1]) end
  return result
end

for name, round_small in pairs(formats.round) do reference.round[name] = round_small end
reference.scale, reference.hadamard = formats.scale, formats.hadamard
reference.smoothing = formats.smoothing

-- The largest magnitude of elements, NaN if one is not finite.
local function absmax_of(x, positions)
  local absmax = 0
  for _, i in ipairs(positions) do
    local magnitude = math.abs(x[i])
    if magnitude ~= magnitude or magnitude == math.huge then return 0 / 0 end
    absmax = math.max(absmax, magnitude)
  end
  return absmax
end

-- The same as below, for scales in E4M3 under the absmax `upper`, if there is one.
local function quantize_below(x, positions, format, round_to, out, upper)
  local scale, inverse = formats.e4m3_scale(absmax_of(x, positions), upper, format, reference.round.e4m3)
  for _, i in ipairs(positions) do
    local s = f32(x[i] * inverse)
    local value = type(format) == "table" and format[reference.nearest(format, s) + 1] or reference.round[format](s)
    out[i] = scale ~= scale and scale or round_to(f32(value * scale))
  end
  return scale
end

-- Quantizes the elements at `positions` of the list x as one block, into `out`; `known` is its scale, or nil. Returns
-- its scale.
local function quantize_block(x, positions, format, divide, round_to, out, scale_rounding, known, more)
  local absmax = absmax_of(x, positions)
  local is_map = type(format) == "table"
  local scale = known and absmax == absmax and known or reference.scale(absmax, format, scale_rounding, more)
  divide = divide or f32(1 / scale) == math.huge
  for _, i in ipairs(positions) do
    if scale ~= scale or scale == 0 then
      out[i] = scale
    else
      local s = divide and f32(x[i] / scale) or f32(x[i] * f32(1 / scale))
      local value = is_map and format[reference.nearest(format, s) + 1] or reference.round[format](s)
      out[i] = round_to(f32(value * scale))
    end
  end
  return scale
end

-- The largest value that a format's codes stand for, and the lowest.
local function limits_of(format)
  if type(format) == "table" then return format[256], format[1] end
  return formats.largest[format], -formats.largest[format]
end

-- The same for a scale that is fitted, under the absmax `upper` if there is one. `found`, or nil: a scale that is taken
-- if the error that it leaves is the least but for rounding.
local function quantize_fitted(x, positions, format, divide, round_to, out, scale_rounding, more, upper, found)
  local values, best, least, absmax = {}, nil, nil, absmax_of(x, positions)
  for i, position in ipairs(positions) do values[i] = x[position] end
  local range = formats.range(values, absmax, more.range)
  for _, factor in ipairs(more.candidates or {1}) do
    local magnitude = more.candidates and math.min(f32(range * f32(factor)), 2 ^ 128 - 2 ^ 104) or range
    local scale
    if scale_rounding == "e4m3" then
      scale = formats.e4m3_scale(magnitude, upper, format, reference.round.e4m3, more.largest_scale)
    else
      scale = reference.scale(magnitude, format, scale_rounding, more)
    end
    local error = 0
    local by_division = divide or f32(1 / scale) == math.huge
    for i, value in ipairs(values) do
      local s = scale == 0 and 0 or by_division and f32(value / scale) or f32(value * f32(1 / scale))
      local code = scale ~= scale and scale or type(format) == "table" and format[reference.nearest(format, s) + 1] or
        reference.round[format](s)
      values[-i] = f32(code * scale)
      error = error + (value - code * scale) ^ 2
    end
    local rounding = 2 ^ -20 * (least or 0) + (2 ^ -25 * absmax) ^ 2
    if not best or error < least and (best ~= found or error < least - rounding) or
      scale == found and error <= least + rounding then
      best, least = scale, math.min(error, least or error)
      for i, position in ipairs(positions) do out[position] = round_to(values[-i]) end
    end
  end
  return best
end

--- Whether each element of x lies within what the codes of its block can say, rounding errors aside: a list of 1 and 0.
-- @param scales, groups as fake_quantize returns them
function reference.mask(x, format, scales, groups)
  local high, low = limits_of(format)
  local mask = {}
  for i, value in ipairs(x) do
    local scale = f32(scales[groups[i]] * (1 + 2 ^ -22))
    mask[i] = value <= f32(high * scale) and value >= f32(low * scale) and 1 or 0
  end
  return mask
end

--- Quantizes and dequantizes.
-- @param x      list of float32 values, row-major
-- @param format list of 256 values, or the name of a format
-- @param scale  "tensor", "row", "column", a block length, or {rows, columns}
-- @param shape  {rows, columns} of x
-- @param dtype  that of the result
-- @param scale_rounding as in a recipe
-- @param known  the scale, instead of that of absmax, or nil
-- @param more   {headroom =, constant_scale =, second_scale =, range =, candidates =, largest_scale =} of a recipe, and
--   `found`, scales that are taken where the error that they leave is the least but for rounding; or nil
-- @return list of values, list of scales in the order of their blocks, and for each element which of these it has
function reference.fake_quantize(x, format, scale, shape, dtype, scale_rounding, known, more)
  local columns = shape[2]
  local group_of
  if scale == "tensor" then
    group_of = function() return 0 end
  elseif scale == "column" then
    group_of = function(i) return i % columns end
  elseif type(scale) == "table" then
    group_of = function(i)
      local row, column = math.floor(i / columns), i % columns
      return math.floor(row / scale[1]) * columns + math.floor(column / scale[2])
    end
  else
    local length = scale == "row" and columns or scale
    group_of = function(i) return math.floor(i / length) end
  end
  local groups, order, out, scales = {}, {}, {}, {}
  for i = 1, #x do
    local group = group_of(i - 1)
    if not groups[group] then
      groups[group] = {}
      table.insert(order, group)
    end
    table.insert(groups[group], i)
  end
  local divide = scale == "tensor" and type(format) == "table"
  local round_to, upper_of = reference.round[dtype or "f32"], {}
  local second = more and more.second_scale or "none"
  for i, group in ipairs(order) do
    local positions = groups[group]
    local row = second == "row" and math.floor((positions[1] - 1) / columns) or 0
    if second ~= "none" and not upper_of[row] then
      local all = {}
      for j = 1, second == "row" and columns or #x do all[j] = row * columns + j end
      upper_of[row] = absmax_of(x, all)
    end
    if more and (more.range or more.candidates or more.largest_scale) then
      scales[i] =
        quantize_fitted(x, positions, format, divide, round_to, out, scale_rounding, more, upper_of[row],
          more.found and more.found[i])
    elseif scale_rounding == "e4m3" then
      scales[i] = quantize_below(x, positions, format, round_to, out, upper_of[row])
    else
      scales[i] = quantize_block(x, positions, format, divide, round_to, out, scale_rounding, known, more)
    end
  end
  local number_of = {}
  for i, group in ipairs(order) do
    for _, position in ipairs(groups[group]) do number_of[position] = i end
  end
  return out, scales, number_of
end

--- The smallest power of two from 64 to 4096 that is at least the number of features, else 4096.
function reference.block_length(features)
  local length = 64
  while length < features and length < 4096 do length = length * 2 end
  return length
end

--- a (m, k) · b (k, n) of row-major lists, in double. transpose_a: a is stored (k, m); transpose_b: b is stored (n, k).
function reference.matmul(a, b, m, k, n, transpose_a, transpose_b)
  local out = {}
  for i = 0, m - 1 do
    for j = 0, n - 1 do
      local sum = 0
      for l = 0, k - 1 do
        local left = transpose_a and a[l * m + i + 1] or a[i * k + l + 1]
        local right = transpose_b and b[j * k + l + 1] or b[l * n + j + 1]
        sum = sum + left * right
      end
      out[i * n + j + 1] = sum
    end
  end
  return out
end

--- Zeros (count, features) plus the rows at their positions, which count from 0: all lists.
function reference.index_add(count, features, positions, rows)
  local sums = {}
  for i = 1, count * features do sums[i] = 0 end
  for j, position in ipairs(positions) do
    for i = 1, features do
      sums[position * features + i] = sums[position * features + i] + rows[(j - 1) * features + i]
    end
  end
  return sums
end

return reference

--- Formats that fp8 does not have, as functions of a recipe (`quantize` in fp8.recipes), and beside each the same
-- format as a map, which fp8's kernel takes.
local fp8 = require "fp8"

local own_formats = {}

-- --- posit8 ---

-- The positive values of a posit of 8 bits with 2 bits of exponent (Posit Working Group, "Standard for posit
-- arithmetic", 2022), ascending: a run of equal bits is the coarse exponent, and what it leaves is for the fine one and
-- digits.
local function posit_values()
  local values = {}
  for code = 1, 127 do
    local function bit_at(position) return math.floor(code / 2 ^ (7 - position)) % 2 end
    local first, run = bit_at(1), 1
    while run < 7 and bit_at(run + 1) == first do run = run + 1 end
    local exponent, fraction, position = 4 * (first == 1 and run - 1 or -run), 0, run + 2
    for weight = 1, 0, -1 do
      exponent = exponent + (position <= 7 and bit_at(position) or 0) * 2 ^ weight
      position = position + 1
    end
    for i = position, 7 do fraction = fraction + bit_at(i) * 2 ^ -(i - position + 1) end
    values[code] = 2 ^ exponent * (1 + fraction)
  end
  return values
end

-- All of them, ascending, and what lies between neighbours: a number there goes to the one whose place is even.
local function posit_tables()
  local all, middles = {}, {}
  for i, value in ipairs(posit_values()) do
    all[128 + i], all[128 - i] = value, -value
  end
  all[128] = 0
  for i = 1, 254 do
    local middle = (all[i] + all[i + 1]) / 2
    local below = middle > 0 and 1 - 2 ^ -23 or 1 + 2 ^ -23
    middles[i] = i % 2 == 0 and middle * below or middle
  end
  return all, middles
end

local one_at = 16 -- where the largest magnitude of a tensor comes to lie at most; digits get fewer from there on

--- posit8(device): f(x) with one scale for the tensor, a power of two.
function own_formats.posit8(device)
  local all, middles = posit_tables()
  all, middles = fp8.tensor(all, {device = device}), fp8.tensor(middles, {device = device})
  return function(x)
    local absmax = fp8.maximum(x:max(), -x:min()):float()
    local scale = fp8.pow(2, absmax:log2():ceil()) / one_at
    local places = x:bucketize(middles * scale):view(-1)
    return (all * scale):to(x.dtype):index_select(1, places):view(x.shape)
  end
end

--- The same values as a map, whose absmax comes to lie where the function has it.
function own_formats.posit8_map()
  local all = posit_tables()
  local largest = all[255]
  for i, value in ipairs(all) do all[i] = value / largest end
  all[256] = 1
  return {
    format = fp8.tensor(all, {device = "cpu"}), scale = "tensor", scale_rounding = "power_of_two",
    headroom = largest / one_at,
  }
end

-- --- powers of two ---

local octaves = 6 -- below the largest; 4 bits with the sign and 0

--- logarithmic(x): the nearest power of two below the largest magnitude, and what is too small for that becomes the
-- smallest or 0 at random, so that it stays in the mean: "stochastic underflow" of Chmiel et al., "Accurate neural
-- training with 4-bit matrix multiplications at standard formats" (2023).
function own_formats.logarithmic(x)
  local absmax = fp8.maximum(x:max(), -x:min())
  local magnitude, sign = x:abs() / absmax:clamp(2 ^ -126), x:sign()
  local stays = magnitude:gt(fp8.rand(x.shape, {dtype = x.dtype, device = x.device}):mul_(2 ^ -octaves))
  local exponent = magnitude:log2_():round_():clamp_(-octaves, 0)
  return fp8.pow(2, exponent):mul_(sign):mul_(stays):mul_(absmax)
end

--- The same values as a map, which is rounded stochastically everywhere.
function own_formats.logarithmic_map()
  local values = {}
  for octave = 0, octaves do values[2 * octave + 1], values[2 * octave + 2] = 2 ^ -octave, -2 ^ -octave end
  while #values < 256 do values[#values + 1] = 0 end
  table.sort(values)
  return {format = fp8.tensor(values, {device = "cpu"}), scale = "tensor", rounding = "stochastic"}
end

return own_formats

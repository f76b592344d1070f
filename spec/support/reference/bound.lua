--- Numbers that are known up to an error: running error analysis of float32 arithmetic (Higham, "Accuracy and Stability
-- of Numerical Algorithms", 2002, section 3.3), in double.
--
-- A bound is {value, error}: the exact result of a formula, and how far what float32 makes of it may be away, each
-- operation adding half a unit in the last place of its result. The error is infinite where nothing can be said, as
-- beside an overflow. Functions beyond arithmetic are good to 5e-7 of their result (cpu/elementwise/vector_math.h; the
-- GPU's, within 4 units in the last place, are too), and exponentials below 2^-126 may be 0.
local ffi = require "ffi"
local reference = require "spec.support.reference"

ffi.cdef "double erf(double x); double erfc(double x); double expm1(double x); double log1p(double x);"

local bound = {}

local unit, smallest, function_error, no_exponential = 2 ^ -24, 2 ^ -150, 5e-7, 2 ^ -126
local abs, huge, largest = math.abs, math.huge, 3.4028234663852886e38

--- By dtype: half a unit in the last place of 1, half of the smallest step, and the largest number.
local formats = {
  f32 = {2 ^ -24, 2 ^ -150, largest}, f16 = {2 ^ -11, 2 ^ -25, 65504},
  bf16 = {2 ^ -8, 2 ^ -134, 3.3895313892515355e38}, e4m3 = {2 ^ -4, 2 ^ -10, huge}, e5m2 = {2 ^ -3, 2 ^ -17, huge},
}

local function made(value, err)
  if not (abs(value) + err < largest) then return {value, huge} end
  return {value, err}
end

-- After one rounding to float32.
local function rounded(value, err) return made(value, err + (abs(value) + err) * unit + smallest) end

--- The dtypes that gradients can have.
bound.computes = {f32 = true, f16 = true, bf16 = true}

--- x, exactly.
function bound.exact(x) return made(x, 0) end

--- x, known up to so much.
bound.within = made

function bound.neg(a) return {-a[1], a[2]} end
function bound.add(a, b) return rounded(a[1] + b[1], a[2] + b[2]) end
function bound.sub(a, b) return rounded(a[1] - b[1], a[2] + b[2]) end

local function product_error(a, b) return abs(a[1]) * b[2] + abs(b[1]) * a[2] + a[2] * b[2] end

function bound.mul(a, b)
  if (a[1] == 0 and a[2] == 0) or (b[1] == 0 and b[2] == 0) then return made(a[1] * b[1], 0 * (a[2] + b[2])) end
  return rounded(a[1] * b[1], product_error(a, b))
end

function bound.div(a, b)
  local room = abs(b[1]) - b[2]
  if not (room > 0) then return {a[1] / b[1], huge} end
  local value = a[1] / b[1]
  return rounded(value, (a[2] + abs(value) * b[2]) / room)
end

-- A function's value whose argument's error makes it err off.
local function computed(value, err) return made(value, err + (abs(value) + err) * function_error + smallest) end

function bound.exp(a)
  local value = math.exp(a[1])
  return computed(value, value * ffi.C.expm1(a[2]) + no_exponential)
end

function bound.log(a)
  if not (a[1] > a[2]) then return {math.log(a[1]), huge} end
  return computed(math.log(a[1]), math.log(a[1] / (a[1] - a[2])))
end

--- ln(1 + a); e^a - 1 and the error function, of exact numbers. The first two correct the rounding of a sum by that of
-- a quotient: three roundings more.
function bound.log1p(a)
  if not (a[1] - a[2] > -1) then return {math.log(1 + a[1]), huge} end
  local value = ffi.C.log1p(a[1])
  return computed(value, abs(value) * 3 * unit + a[2] / (1 + a[1] - a[2]))
end

function bound.expm1(x)
  if abs(x) >= 0.5 then return bound.sub(bound.exp(bound.exact(x)), bound.exact(1)) end
  local value = ffi.C.expm1(x)
  return computed(value, abs(value) * 3 * unit)
end

function bound.erf(x) return computed(ffi.C.erf(x), 0) end

function bound.sqrt(a)
  if not (a[1] > a[2]) then return a[1] == 0 and a[2] == 0 and a or {math.sqrt(a[1]), huge} end
  return computed(math.sqrt(a[1]), a[2] / math.sqrt(a[1] - a[2]))
end

--- a^b, of an exact a > 0 and of an exact b or one that is off by `exponent_error`.
function bound.pow(a, b, exponent_error)
  return computed(a ^ b, exponent_error and a ^ b * ffi.C.expm1(abs(math.log(a)) * exponent_error) or 0)
end

--- a^p of a >= 0, which may be off, and an exact p.
function bound.power(a, p)
  local value = a[1] ^ p
  local low, high = math.max(a[1] - a[2], 0) ^ p, (a[1] + a[2]) ^ p
  return computed(value, math.max(abs(high - value), abs(low - value)))
end

function bound.cos(x) return computed(math.cos(x), 0) end

function bound.sigmoid(a)
  local power = bound.exp {-abs(a[1]), a[2]}
  local one = bound.exact(1)
  return bound.div(a[1] < 0 and power or one, bound.add(one, power))
end

--- The normal distribution function of an exact number, and its density. Both go by e^(-x²/2), into which a rounding of
-- the argument enters as much as x² times.
function bound.normal_cdf(x)
  local value = 0.5 * ffi.C.erfc(-x / math.sqrt(2))
  return computed(value, no_exponential + (x < 0 and value * x * x * 2 * unit or 0))
end

function bound.normal_density(x)
  local value = math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
  return computed(value, no_exponential + value * x * x * 2 * unit)
end

--- The sum of a list, in any order; each term may itself be rounded once more, and be cut off where tensor cores align
-- terms, which is as much again.
function bound.sum(list)
  local value, err, magnitude = 0, 0, 0
  for _, term in ipairs(list) do
    value, err, magnitude = value + term[1], err + term[2], magnitude + abs(term[1]) + term[2]
  end
  if magnitude > largest then return {value, huge} end
  return made(value, err + 2 * (#list + 1) * unit * magnitude + #list * smallest)
end

--- The sum of products of two lists. Products of 16-bit numbers are exact, those of float32 rounded, unless they are
-- smaller than 2^-126, which some libraries make 0.
function bound.dot(a, b)
  local terms = {}
  for i = 1, #a do
    local value = a[i][1] * b[i][1]
    terms[i] = made(value, product_error(a[i], b[i]) + (value ~= 0 and no_exponential or 0))
  end
  return bound.sum(terms)
end

--- Rounded to a dtype, and back to float32.
function bound.to(dtype, a)
  local format = formats[dtype]
  local reach = abs(a[1]) + a[2]
  if not (reach * (1 + 2 * format[1]) < format[3]) then return {a[1], huge} end
  return {a[1], a[2] + reach * format[1] + format[2]}
end

--- Whether `found` may be what rounding to a dtype makes of it. Rounding keeps order, so that it lies between the ends.
function bound.holds(dtype, a, found)
  if a[2] == huge then return true end
  local round = reference.round[dtype]
  local low, high = round(reference.f32(a[1] - a[2])), round(reference.f32(a[1] + a[2]))
  return found >= low and found <= high
end

return bound

--- What fp8.analyze and the comparison under it have to find, in double.
local assert = require "luassert"
local fp8 = require "fp8"
local reference = require "spec.support.reference"

local statistics = {}

local f32 = reference.f32

local function is_finite(value) return value == value and math.abs(value) ~= math.huge end

--- A map and its range: how far x / scale may go.
function statistics.map_format(map)
  local values = map:totable()
  return {
    format = values, largest = 1, low = values[1] - (values[2] - values[1]) / 2,
    high = values[256] + (values[256] - values[255]) / 2,
  }
end

statistics.formats = {
  e4m3 = {format = "e4m3", largest = 448, low = -464, high = 464},
  e5m2 = {format = "e5m2", largest = 57344, low = -61440, high = 61440},
  e4m3_map = statistics.map_format(fp8.create_map(true, 4, 3, 8)),
  e5m2_map = statistics.map_format(fp8.create_map(true, 5, 2, 8)),
  dynamic = statistics.map_format(fp8.create_dynamic_map()),
  linear = statistics.map_format(fp8.create_linear_map()),
}

--- What comparison.read has to give. `blocksize` may be a function from an element's position to its scale's.
function statistics.expected(x, values, scales, format, blocksize)
  local function scale_of(i)
    if not scales then return nil end
    return scales[type(blocksize) == "function" and blocksize(i) or math.floor((i - 1) / blocksize) + 1]
  end
  local all = {count = #x, zeros = 0, nonfinite = 0, absmax = 0, underflow = 0, saturated = 0, relative_error = 0}
  local sum, squares, errors = 0, 0, 0
  for i = 1, #x do
    if not is_finite(x[i]) then
      all.nonfinite = all.nonfinite + 1
      all.first_nonfinite = all.first_nonfinite or i
    else
      local scale = scale_of(i)
      local outside = scale and (x[i] > f32(format.high * scale) or x[i] < f32(format.low * scale))
      if x[i] == 0 then all.zeros = all.zeros + 1 end
      if outside then
        all.saturated = all.saturated + 1
      elseif x[i] ~= 0 and values[i] == 0 then
        all.underflow = all.underflow + 1
      end
      sum, squares, errors = sum + x[i], squares + x[i] ^ 2, errors + (x[i] - values[i]) ^ 2
      all.absmax = math.max(all.absmax, math.abs(x[i]))
      if x[i] ~= 0 and values[i] ~= 0 and all.relative_error == all.relative_error then
        local ratio = math.abs(x[i] - values[i]) / math.abs(x[i])
        all.relative_error = ratio ~= ratio and ratio or math.max(all.relative_error, ratio)
      end
    end
  end
  local finite = all.count - all.nonfinite
  all.mean, all.rms = sum / math.max(finite, 1), math.sqrt(squares / math.max(finite, 1))
  all.snr = all.nonfinite > 0 and 0 / 0 or errors == 0 and math.huge or 10 * math.log10(squares / errors)
  local magnitudes = math.max(finite - all.zeros, 1)
  all.underflow, all.saturated = all.underflow / magnitudes, all.saturated / magnitudes
  return all
end

--- Asserts that statistics are the expected ones.
function statistics.same(expected, actual, context)
  for name, value in pairs(expected) do
    local found = actual[name]
    local equal = found == value or (value ~= value and found ~= found)
    if not equal and (name == "mean" or name == "rms" or name == "snr" or name == "relative_error") then
      local scale = name == "mean" and expected.rms or math.abs(value)
      equal = math.abs(found - value) <= 1e-5 * scale
    end
    assert.is_true(equal, ("%s: %s should be %s, is %s"):format(context, name, tostring(value), tostring(found)))
  end
  assert.equal(expected.first_nonfinite, actual.first_nonfinite)
end

return statistics

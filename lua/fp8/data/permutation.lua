--- A random order, from a generator of its own.
local bit = require "bit"
local ffi = require "ffi"
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local is_whole = require "fp8.is_whole"

local raise = core.raise

-- SplitMix64 (Steele, Lea and Flood, 2014): uniform doubles in [0, 1).
local function generator(seed)
  local state = ffi.cast("uint64_t", seed)
  return function()
    state = state + 0x9E3779B97F4A7C15ULL
    local z = state
    z = bit.bxor(z, bit.rshift(z, 30)) * 0xBF58476D1CE4E5B9ULL
    z = bit.bxor(z, bit.rshift(z, 27)) * 0x94D049BB133111EBULL
    z = bit.bxor(z, bit.rshift(z, 31))
    return tonumber(bit.rshift(z, 11)) * 2^-53
  end
end

--- fp8.data.permutation(count, seed [, {device =}]): the numbers from 0 to count - 1 in random order (Fisher, Yates).
-- The same seed gives the same order everywhere, whatever other random numbers are drawn.
-- @return i64 (count)
--   fp8.data.permutation(4, 1):sum():item() --> 6
return function(count, seed, options)
  for name, value in pairs {count = count or false, seed = seed or false} do
    if not is_whole(value, 0) then
      raise(("permutation: %s must be a whole number of at least 0, got %s"):format(name, tostring(value)))
    end
  end
  local device = check_options("permutation", options, {device = "device"}).device
  local positions = core.arange(0, count, 1, {dtype = "i64", device = "cpu"})
  local element, uniform = ffi.cast("int64_t *", core.data(positions)), generator(seed)
  for i = count - 1, 1, -1 do
    local j = math.floor(uniform() * (i + 1))
    element[i], element[j] = element[j], element[i]
  end
  return device and core.to(positions, {device = device}) or positions
end

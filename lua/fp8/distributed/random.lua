--- Random numbers of each rank's own, from the beginning of a forward pass to the end of its backward pass: dropout and
-- stochastic rounding of gradients draw others on each rank, and all else, such as a shuffled order or the stochastic
-- rounding of parameters, the same everywhere.
local bit = require "bit"
local core = require "fp8.core"
local ffi = require "ffi"
local group = require "fp8.distributed.group"

local random = {}

local shared = {seed = false, position = false} -- of all ranks, while this one has its own

-- SplitMix64's finalizer (Steele, Lea and Flood, 2014), of which a seed takes 53 bits.
local function mixed(seed, position, rank)
  local z = ffi.cast("uint64_t", seed) * 0x9E3779B97F4A7C15ULL + ffi.cast("uint64_t", position)
  z = z * 0xD1B54A32D192ED03ULL + (rank + 1)
  z = bit.bxor(z, bit.rshift(z, 30)) * 0xBF58476D1CE4E5B9ULL
  z = bit.bxor(z, bit.rshift(z, 27)) * 0x94D049BB133111EBULL
  return tonumber(bit.rshift(bit.bxor(z, bit.rshift(z, 31)), 11))
end

--- From now on random numbers are this rank's own.
function random.begin()
  if shared.seed then return end
  local seed, position = core.random_state()
  core.manual_seed(mixed(seed, position, group.of("DataParallel").rank))
  shared.seed, shared.position = seed, position
end

--- From now on they are those of all ranks again, which go on as if one number had been drawn.
function random.finish()
  if not shared.seed then return end
  core.manual_seed(shared.seed, shared.position + 1)
  shared.seed, shared.position = false, false
end

return random

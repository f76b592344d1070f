--- Philox4x32-10 of Salmon et al. (2011), one word after the other, and the bits that stochastic rounding takes of it:
-- the reference for what src/core/random.h says.
local bit = require "bit"
local ffi = require "ffi"

local philox = {}

local function product(a, b)
  local both = ffi.cast("uint64_t", a) * b
  return tonumber(bit.rshift(both, 32)), tonumber(bit.band(both, 0xFFFFFFFFULL))
end

local function xor(a, b, c) return bit.bxor(a, b, c) % 2 ^ 32 end

--- The four words of a block.
-- @param seed, block whole numbers below 2^53
function philox.block(seed, block)
  local low, high = block % 2 ^ 32, math.floor(block / 2 ^ 32)
  local c = {low, high, 0, 0}
  local k0, k1 = seed % 2 ^ 32, math.floor(seed / 2 ^ 32)
  for _ = 1, 10 do
    local high0, low0 = product(0xD2511F53, c[1])
    local high1, low1 = product(0xCD9E8D57, c[3])
    c = {xor(high1, c[2], k0), low1, xor(high0, c[4], k1), low0}
    k0, k1 = (k0 + 0x9E3779B9) % 2 ^ 32, (k1 + 0xBB67AE85) % 2 ^ 32
  end
  return c
end

--- What elements 1 to `count` of a stochastic rounding decide by that begins at a position of the generator: 32 bits
-- each, of which the upper 16 are the element's own.
function philox.rounding_bits(seed, position, count)
  local result = {}
  for i = 0, count - 1 do
    local block = philox.block(seed, position + math.floor(i / 8))
    local word = block[math.floor(i % 8 / 2) + 1]
    result[i + 1] = i % 2 == 0 and word or word % 2 ^ 16 * 2 ^ 16 + math.floor(word / 2 ^ 16)
  end
  return result
end

return philox

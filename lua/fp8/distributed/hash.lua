--- Whether tensors are the same on all ranks.
local bit = require "bit"
local ffi = require "ffi"
local core = require "fp8.core"
local collectives = require "fp8.distributed.collectives"

-- 64 bits of the elements' own, in words of 8 bytes; what is left of the last one is zeros.
local function hash_of(tensor, hash)
  local whole = core.contiguous(core.to(tensor, {device = "cpu"}))
  local count = core.numel(whole) * core.dtypes[core.dtype(whole)].size
  if count == 0 then return hash end
  local words, rest = math.floor(count / 8), count % 8
  local data = core.data(whole)
  local word = ffi.cast("const uint64_t *", data)
  for i = 0, words - 1 do hash = bit.bxor(bit.rol(hash, 29), word[i]) * 0x9E3779B97F4A7C15ULL end
  local last = ffi.new "uint64_t[1]"
  ffi.copy(last, ffi.cast("const char *", data) + 8 * words, rest)
  return bit.bxor(bit.rol(hash, 29), last[0]) * 0x9E3779B97F4A7C15ULL
end

--- Whether a list of tensors has the same bits on all ranks, which call this together.
return function(tensors)
  local hash = 0ULL
  for _, tensor in ipairs(tensors) do hash = hash_of(tensor, hash) end
  local all = core.to(collectives.all_gather(core.tensor({ffi.cast("int64_t", hash)}, {dtype = "i64", device = "cpu"})),
    {device = "cpu"})
  local found = ffi.cast("const int64_t *", core.data(all))
  for i = 1, core.numel(all) - 1 do
    if found[i] ~= found[0] then return false end
  end
  return true
end

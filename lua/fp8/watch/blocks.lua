--- What the blocks are like that share a scale, as fp8.analyze and fp8.watch tell where they are asked for it: blocks
-- of the tensor as it comes. All is computed on the tensor's device, in sizes that do not depend on the values, and
-- nothing waits for it.
local ffi = require "ffi"
local autograd = require "fp8.autograd"
local comparison = require "fp8.watch.compare"
local core = require "fp8.core"
local scope = require "fp8.scope"

local blocks = {}

local steps = 4 -- quantiles are at 0, 1 / 4, 2 / 4, …
local unit = 2 ^ 20 -- a row has integers: exponents times this

-- A row has that of comparison.new_rows, and where blocks are asked for how many of them have something other than 0 in
-- them, all of it finite; how many of those one element dominates; and the quantiles of log2(absmax).
local words = comparison.words + 2 + steps + 1

--- Rows for blocks.compare to write.
-- @param wanted whether they are to tell of blocks
-- @param ...    leading sizes
function blocks.new_rows(device, wanted, ...)
  if not wanted then return comparison.new_rows(device, ...) end
  local sizes = {...}
  sizes[#sizes + 1] = words
  return core.zeros(sizes, {dtype = "i64", device = device})
end

-- x in rows of `length`, 0 where it has no more.
local function in_runs(x, length)
  local count = math.ceil(x:numel() / length)
  if count * length == x:numel() then return x:view(count, length) end
  local padded = core.zeros({count * length}, {dtype = "f32", device = core.device(x)})
  padded:narrow(1, 1, x:numel()):copy_(x:view(-1))
  return padded:view(count, length)
end

-- A matrix in tiles, each as a row.
local function in_tiles(x, tile)
  local rows, columns = x:size(1), x:size(2)
  local height, width = math.min(tile[1], rows), math.min(tile[2], columns)
  local down, across = math.ceil(rows / height), math.ceil(columns / width)
  local padded = core.zeros({down * height, across * width}, {dtype = "f32", device = core.device(x)})
  padded:narrow(1, 1, rows):narrow(2, 1, columns):copy_(x)
  return padded:view(down, height, across, width):permute(1, 3, 2, 4):reshape(down * across, height * width)
end

-- The magnitudes in a matrix, a row for each of the blocks; blocksize as in a plan (plan.lua).
local function in_blocks(x, blocksize)
  local magnitudes = x:abs():float():contiguous()
  if type(blocksize) == "table" then
    local columns = #core.shape(x) > 0 and x:size(-1) or 1
    return in_tiles(magnitudes:view(-1, columns), blocksize)
  end
  return in_runs(magnitudes, math.min(blocksize or x:numel(), x:numel()))
end

-- Writes the part of a row. One element dominates a block if its square is more than half of the sum of squares.
local function write(part, x, blocksize)
  local magnitudes = in_blocks(x, blocksize)
  local absmax = magnitudes:max(2)
  local counted = absmax:isfinite():logical_and(absmax:gt(0))
  local energy = (magnitudes / absmax:unsqueeze(2)):square():sum(2)
  local count = counted:to("i64"):sum()
  part:narrow(1, 1, 1):copy_(count)
  part:narrow(1, 2, 1):copy_(energy:lt(2):logical_and(counted):to("i64"):sum())
  local exponents = core.where(counted, absmax:log2(), math.huge):sort(1) -- those that count come first
  local places = core.arange(0, steps + 1, 1, {dtype = "f32", device = core.device(x)}) / steps
  places = ((count:float() - 1):clamp(0) * places):round():to "i64"
  part:narrow(1, 3, steps + 1):copy_((exponents:index_select(1, places):clamp(-1e6, 1e6) * unit):round())
end

--- The part of a row that core.compare writes, and that for blocks.write, or nil: views.
function blocks.parts(row)
  if core.numel(row) < words then return row, nil end
  return core.narrow(row, 1, 1, comparison.words), core.narrow(row, 1, comparison.words + 1, words - comparison.words)
end

--- Writes what the blocks of x are like for an operand (plan.lua), or zeros where it has none.
function blocks.write(part, x, operand)
  if not operand or not operand.quantizer or core.numel(x) == 0 then return autograd.no_grad(part.zero_, part) end
  autograd.no_grad(scope, write, part, core.contiguous(x), operand.blocksize)
end

--- What comparison.read gives of row `index` (from 0), and where its rows tell of blocks:
--
--   blocks     how many there are with something other than 0 in them, all of it finite
--   dominated  the share of them in which the square of the largest element is more than half of the sum of squares
--   exponents  log2(absmax) of those: the least, the one at a quarter of them, at half, at three quarters, the largest
--   spread     the largest minus the least, in octaves
--
-- The last two are nil without any such block. How much is clipped is `saturated`.
function blocks.read(rows, index, wanted)
  local statistics = comparison.read(rows, index, wanted and words)
  if not wanted then return statistics end
  local first = index * words + comparison.words
  local data = ffi.cast("const int64_t *", core.data(rows))
  local count = tonumber(data[first])
  statistics.blocks, statistics.dominated = count, count > 0 and tonumber(data[first + 1]) / count or 0
  if count == 0 then return statistics end
  local exponents = {}
  for i = 1, steps + 1 do exponents[i] = tonumber(data[first + 1 + i]) / unit end
  statistics.exponents, statistics.spread = exponents, exponents[steps + 1] - exponents[1]
  return statistics
end

return blocks

--- Random choices.
local check = require "fp8.ops.check"
local core = require "fp8.core"
local shape_text = require("fp8.shapes").text

local raise = core.raise

local sample = {}

-- Integers in proportion to each row, whose largest element is 1: their sum, which takes up to 42 bits, is exact in any
-- order, so that every device draws the same.
local function whole_weights(shares, categories)
  local bits = 42 - math.ceil(math.log(categories) / math.log(2))
  return core.to(core.mul(shares, 2 ^ bits), {dtype = "i64"})
end

-- By inversion: for a random number below the sum of all weights, the category in which the running sum goes past it.
local function with_replacement(shares, shape, count)
  local rank, categories = #shape, shape[#shape]
  local sums = core.cumsum(whole_weights(shares, categories), rank)
  shape[rank] = count
  local numbers = core.randint(0, 0x7fffffffffffffffLL, shape, {dtype = "i64", device = core.device(shares)})
  return core.searchsorted(sums, core.remainder(numbers, core.narrow(sums, rank, categories, 1)), true)
end

-- By a race: of exponentially distributed times over p, the smallest ones are those of categories drawn with
-- probabilities in proportion to p (Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006). The
-- sum of the squares of two normal numbers is exponentially distributed.
local function race(shares, shape, count)
  local on = {dtype = "f32", device = core.device(shares)}
  local x, y = core.randn(shape, on), core.randn(shape, on)
  local times = core.add(core.mul(x, x), core.mul(y, y))
  local speeds = core.where(core.gt(shares, 0), core.div(shares, times), -1)
  if count == 1 then return core.argmax(speeds, #shape, true) end
  local _, positions = core.sort(speeds, #shape, true, count)
  return positions
end

-- An error unless all are finite numbers from 0 on, and each row has so many above 0; the device is waited for.
local function check_rows(p, largest, shape, needed)
  local fewest = core.min(core.sum(core.gt(p, 0), #shape))
  local all_right = core.logical_and(core.ge(core.min(p), 0), core.isfinite(core.max(largest)))
  local found = core.item(core.where(all_right, fewest, -1))
  if found < 0 then raise "multinomial: the elements must be finite numbers from 0 on" end
  if found < needed then
    raise(("multinomial: %d different categories can't be drawn from a row with %d above 0"):format(needed, found))
  end
end

--- x:multinomial(num_samples [, replacement]): numbers of categories, from 0, i64, drawn with probabilities in
-- proportion to the elements of x, of shape (categories), or of each row of x, (rows, categories): (num_samples) or
-- (rows, num_samples). They are different ones, in the order in which they were drawn, unless `replacement` is true.
-- The same seed (fp8.manual_seed) gives the same ones on every device. The elements are checked, for which the device
-- is waited for.
--   fp8.tensor({0, 3, 0}):multinomial(2, true) --> {1, 1}
function sample.multinomial(x, num_samples, replacement)
  check.tensor("multinomial", 1, x)
  local shape = core.shape(x)
  if #shape < 1 or #shape > 2 then
    raise("multinomial: 1 or 2 dimensions are needed, got shape " .. shape_text(shape))
  end
  if core.dtypes[core.dtype(x)].kind == "integer" then
    raise("multinomial: a floating-point tensor is needed, got " .. core.dtype(x))
  end
  check.whole("multinomial", "num_samples", num_samples, 1)
  if replacement ~= nil and type(replacement) ~= "boolean" then
    raise("multinomial: replacement must be true or false, got " .. type(replacement))
  end
  local needed = replacement and 1 or num_samples
  if needed > shape[#shape] then
    raise(("multinomial: %d different categories can't be drawn from %d"):format(needed, shape[#shape]))
  end
  if core.numel(x) == 0 then return core.empty({0, num_samples}, {dtype = "i64", device = core.device(x)}) end
  local p = core.to(x, {dtype = "f32"})
  local largest = core.max(p, #shape, true)
  check_rows(p, largest, shape, needed)
  local shares = core.div(p, largest)
  return (replacement and num_samples > 1 and with_replacement or race)(shares, shape, num_samples)
end

return sample

--- The places of values in ascending sequences. Not differentiable.
local check = require "fp8.ops.check"
local check_options = require "fp8.check_options"
local core = require "fp8.core"

local search = {}

-- A tensor as it is; a number as one of the sequence's dtype, or f32 where that can't hold it.
local function as_tensor(name, position, value, sequence)
  if core.is_tensor(value) then return value end
  if type(value) ~= "number" and not (type(value) == "cdata" and tonumber(value)) then
    core.raise(("%s: argument %d: tensor or number expected, got %s"):format(name, position, type(value)))
  end
  local dtype = core.dtype(sequence)
  if core.dtypes[dtype].kind == "integer" then
    local is_whole = type(value) ~= "number" or value == math.floor(value) and math.abs(value) < 2 ^ 63
    dtype = is_whole and "i64" or "f32"
  end
  return core.full({}, value, {dtype = dtype, device = core.device(sequence)})
end

--- sequence:searchsorted(values [, {right =}]): where each value has to go for the sequence to stay in ascending order,
-- i64 from 0 of the values' shape: how many elements are below it or, with right = true, not above it. The sequence has
-- one dimension, for a number or values of any shape, or the values' sizes in all but the last dimension, each row for
-- its own. Integers are compared as integers with integers, all else in f32. That the sequence is in order is not
-- checked.
--   fp8.tensor({1, 3, 5}):searchsorted(fp8.tensor {3, 6}) --> {1, 3}
--   fp8.tensor({1, 3, 5}):searchsorted(3, {right = true}) --> 2
function search.searchsorted(sequence, values, options)
  options = check_options("searchsorted", options, {right = "boolean"})
  check.tensor("searchsorted", 1, sequence)
  return core.searchsorted(sequence, as_tensor("searchsorted", 2, values, sequence), options.right)
end

--- x:bucketize(boundaries [, {right =}]): the number, from 0, of the bucket between ascending boundaries (one
-- dimension) that each element of x is in, which reaches to its upper boundary, included, or, with right = true,
-- excluded: x is what searchsorted has as values.
--   fp8.tensor({1, 4, 9}):bucketize(fp8.tensor {2, 4}) --> {0, 1, 2}
--   fp8.tensor({1, 4, 9}):bucketize(fp8.tensor {2, 4}, {right = true}) --> {0, 2, 2}
function search.bucketize(x, boundaries, options)
  options = check_options("bucketize", options, {right = "boolean"})
  check.tensor("bucketize", 2, boundaries, 1)
  return core.searchsorted(boundaries, as_tensor("bucketize", 1, x, boundaries), options.right)
end

--- x:isin(values): 1 where an element of x is among the values, a tensor, else 0, as u8; not differentiable.
--   fp8.tensor({1, 2, 3}):isin(fp8.tensor {3, 1}) --> {1, 0, 1}
function search.isin(x, values)
  check.tensor("isin", 1, x)
  check.tensor("isin", 2, values)
  if core.numel(values) == 0 then return core.to(core.ne(x, x), {dtype = "u8"}) end
  local sorted = core.sort(core.view(core.contiguous(values), {-1}), 1, false)
  local flat = core.view(core.contiguous(x), {-1})
  local places = core.clamp(search.searchsorted(sorted, flat), 0, core.numel(sorted) - 1)
  return core.view(core.eq(core.index_select(sorted, 1, places), flat), core.shape(x))
end

return search

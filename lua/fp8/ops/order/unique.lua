--- The different elements of a tensor. How many there are comes back from the device, which is waited for: none of this
-- can be captured in a graph. Not differentiable. As in PyTorch, NaNs are different from each other.
local check = require "fp8.ops.check"
local check_options = require "fp8.check_options"
local core = require "fp8.core"

local unique = {}

-- 1, as u8, where an element of a vector differs from the one before it, and at the first.
local function beginnings(values)
  local count = core.numel(values)
  local flags = core.ones({count}, {dtype = "u8", device = core.device(values)})
  if count > 1 then
    local before, after = core.narrow(values, 1, 1, count - 1), core.narrow(values, 1, 2, count - 1)
    core.copy_(core.narrow(flags, 1, 2, count - 1), core.ne(after, before))
  end
  return flags
end

-- For positions at which runs of neighbours begin, how long each is.
local function lengths(begins, count)
  local runs = core.numel(begins)
  local ends = core.full({runs}, count, {dtype = "i64", device = core.device(begins)})
  if runs > 1 then core.copy_(core.narrow(ends, 1, 1, runs - 1), core.narrow(begins, 1, 2, runs - 1)) end
  return core.sub(ends, begins)
end

-- Of a vector, one element a run; with options the number of the run, from 0, that each element of x is in, by `order`,
-- the positions in x of the vector's elements, nil where they are in x's order; and the lengths of runs.
local function runs_of(values, x, order, options)
  local flags = beginnings(values)
  local begins = core.view(core.nonzero(flags), {-1})
  local results = {core.index_select(values, 1, begins)}
  if options.return_inverse then
    local runs = core.sub(core.cumsum(flags, 1), 1)
    if order then runs = core.index_select(runs, 1, core.argsort(order, 1)) end
    results[2] = core.view(runs, core.shape(x))
  end
  if options.return_counts then results[#results + 1] = lengths(begins, core.numel(values)) end
  return unpack(results)
end

local function flat(x) return core.view(core.contiguous(x), {-1}) end

--- x:unique([{sorted =, return_inverse =, return_counts =}]): the different elements of the whole tensor in ascending
-- order (sorted = false allows another one, which is not made use of); with return_inverse also where among these each
-- element of x is, from 0, i64 of x's shape; and with return_counts last how often each is there, i64.
--   fp8.tensor({3, 1, 3, 2}):unique() --> {1, 2, 3}
--   {fp8.tensor({3, 1, 3}):unique {return_inverse = true, return_counts = true}} --> {{1, 3}, {1, 0, 1}, {1, 2}}
function unique.unique(x, options)
  check.tensor("unique", 1, x)
  options = check_options("unique", options, {
    sorted = "boolean", return_inverse = "boolean", return_counts = "boolean",
  })
  local values, order = core.sort(flat(x), 1, false)
  return runs_of(values, x, order, options)
end

--- x:unique_consecutive([{return_inverse =, return_counts =}]): the elements of the whole tensor, in row-major order,
-- without those that equal the one before them; the options are as for unique.
--   fp8.tensor({1, 1, 2, 2, 1}):unique_consecutive() --> {1, 2, 1}
--   {fp8.tensor({1, 1, 2}):unique_consecutive {return_counts = true}} --> {{1, 2}, {2, 1}}
function unique.unique_consecutive(x, options)
  check.tensor("unique_consecutive", 1, x)
  options = check_options("unique_consecutive", options, {return_inverse = "boolean", return_counts = "boolean"})
  return runs_of(flat(x), x, nil, options)
end

return unique

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

-- The same of the rows of a matrix.
local function row_beginnings(rows)
  local count = core.size(rows, 1)
  local flags = core.ones({count}, {dtype = "u8", device = core.device(rows)})
  if count > 1 then
    local before, after = core.narrow(rows, 1, 1, count - 1), core.narrow(rows, 1, 2, count - 1)
    core.copy_(core.narrow(flags, 1, 2, count - 1), core.gt(core.sum(core.ne(after, before), 2), 0))
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

-- `values` and what options ask for beside them: of each element, of `shape`, the number of its run, from 0, and the
-- lengths.
local function described(values, flags, begins, shape, order, options)
  local results = {values}
  if options.return_inverse then
    local runs = core.sub(core.cumsum(flags, 1), 1)
    if order then runs = core.index_select(runs, 1, core.argsort(order, 1)) end
    results[2] = core.view(runs, shape)
  end
  if options.return_counts then results[#results + 1] = lengths(begins, core.numel(flags)) end
  return unpack(results)
end

-- Of a vector, one element a run; with options the number of the run, from 0, that each element of x is in, by `order`,
-- the positions in x of the vector's elements, nil where they are in x's order; and the lengths of runs.
local function runs_of(values, x, order, options)
  local flags = beginnings(values)
  local begins = core.view(core.nonzero(flags), {-1})
  return described(core.index_select(values, 1, begins), flags, begins, core.shape(x), order, options)
end

-- The rows of a matrix in lexicographic order: by the last column first, as sorting keeps the order of equals.
local function row_order(rows)
  local order = core.arange(core.size(rows, 1), {dtype = "i64", device = core.device(rows)})
  for column = core.size(rows, 2), 1, -1 do
    local values = core.index_select(core.select(rows, 2, column), 1, order)
    order = core.index_select(order, 1, core.argsort(values, 1))
  end
  return order
end

-- Of the positions of a dimension, which are compared as a whole.
local function of_dimension(name, x, options, sorts)
  local dimension = check.dimension(name, x, options.dim)
  local count = core.size(x, dimension)
  local first = core.contiguous(core.transpose(x, 1, dimension))
  local rows = core.view(first, {count, core.numel(x) / math.max(count, 1)})
  local order = sorts and row_order(rows) or nil
  local flags = row_beginnings(order and core.index_select(rows, 1, order) or rows)
  local begins = core.view(core.nonzero(flags), {-1})
  local picks = order and core.index_select(order, 1, begins) or begins
  return described(core.index_select(x, dimension, picks), flags, begins, {count}, order, options)
end

local function flat(x) return core.view(core.contiguous(x), {-1}) end

--- x:unique([{sorted =, return_inverse =, return_counts =, dim =}]): the different elements of the whole tensor in
-- ascending order (sorted = false allows another one, which is not made use of); with return_inverse also where among
-- these each element of x is, from 0, i64 of x's shape; and with return_counts last how often each is there, i64.
--   fp8.tensor({3, 1, 3, 2}):unique() --> {1, 2, 3}
-- With a dimension, {dim =}, its positions are compared, each as a whole, and ordered by their first elements, then
-- their second ones; the inverse is a vector then.
--   {fp8.tensor({3, 1, 3}):unique {return_inverse = true, return_counts = true}} --> {{1, 3}, {1, 0, 1}, {1, 2}}
--   fp8.tensor({{2, 1}, {1, 5}, {2, 1}}):unique {dim = 1} --> {{1, 5}, {2, 1}}
function unique.unique(x, options)
  check.tensor("unique", 1, x)
  options = check_options("unique", options, {
    sorted = "boolean", return_inverse = "boolean", return_counts = "boolean", dim = "number",
  })
  if options.dim then return of_dimension("unique", x, options, true) end
  local values, order = core.sort(flat(x), 1, false)
  return runs_of(values, x, order, options)
end

--- x:unique_consecutive([{return_inverse =, return_counts =, dim =}]): the elements of the whole tensor, in row-major
-- order, without those that equal the one before them; the options are as for unique.
--   fp8.tensor({1, 1, 2, 2, 1}):unique_consecutive() --> {1, 2, 1}
--   {fp8.tensor({1, 1, 2}):unique_consecutive {return_counts = true}} --> {{1, 2}, {2, 1}}
function unique.unique_consecutive(x, options)
  check.tensor("unique_consecutive", 1, x)
  options = check_options("unique_consecutive", options, {
    return_inverse = "boolean", return_counts = "boolean", dim = "number",
  })
  if options.dim then return of_dimension("unique_consecutive", x, options, false) end
  return runs_of(flat(x), x, nil, options)
end

return unique

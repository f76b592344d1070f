--- Slices put where a list of positions says. Positions count from 0. The gradient of what is overwritten is 0; where a
-- position comes several times, the last slice stays (on a GPU only after fp8.set_deterministic(true), else one of
-- them), and each of them gets the gradient of that place, as in PyTorch.
local core = require "fp8.core"
local as_row = require "fp8.ops.as_row"
local autograd = require "fp8.autograd"
local broadcast = require "fp8.ops.index.broadcast"
local check = require "fp8.ops.check"
local copy = require "fp8.ops.copy"
local elementwise = require "fp8.ops.elementwise"
local positions_of = require "fp8.ops.index.mask"
local view = require "fp8.ops.view"

local check_in_place, needs_grad, record = autograd.check_in_place, autograd.needs_grad, autograd.record
local raise = core.raise

local put = {}

local function check_number(name, value)
  if type(value) ~= "number" and type(value) ~= "cdata" then
    raise(("%s: argument 4: number expected, got %s"):format(name, type(value)))
  end
end

-- One that writes into a copy of x, and its form in place. `prepare` (name, x, dimension, positions, source, …) gives
-- the source as the core takes it.
local function putting(name, prepare, backward)
  local own_name, operation = name .. "_", {name = name, shares = true, backward = backward}
  local compute = core[own_name]
  put[name] = function(x, dimension, positions, source, ...)
    check.tensor(name, 1, x)
    if core.rank(x) == 0 then return as_row(put[name], x, dimension, positions, source, ...) end
    source = prepare(name, source, ...)
    local y = compute(core.clone(x), dimension, positions, source)
    if needs_grad(x, source) then record(y, operation, {x, source}, {positions}).dimension = dimension end
    return y
  end
  put[own_name] = function(x, dimension, positions, source, ...)
    check.tensor(own_name, 1, x)
    check_in_place(own_name, x, source)
    if core.rank(x) == 0 then
      as_row(put[own_name], x, dimension, positions, source, ...)
      return x
    end
    return compute(x, dimension, positions, prepare(own_name, source, ...))
  end
end

local function as_it_is(name, source) return check.tensor(name, 4, source) end

local function cleared(grad, dimension, positions)
  return core.index_fill_(core.clone(grad), dimension, positions, 0)
end

--- x:index_copy(dim, positions, source): x with the slices of `source` in place of those that `positions`, a list,
-- names.
--   fp8.zeros(3):index_copy(1, fp8.tensor({2, 0}, {dtype = "i64"}), fp8.tensor {5, 6}) --> {6, 0, 5}
--   fp8.zeros(3):index_copy_(1, fp8.tensor({2}, {dtype = "i64"}), fp8.tensor {5}) --> {0, 0, 5}
putting("index_copy", as_it_is, function(node, grad, positions)
  local inputs = node.inputs
  return inputs[1] and cleared(grad, node.dimension, positions),
    inputs[2] and core.index_select(grad, node.dimension, positions)
end)

--- x:index_fill(dim, positions, number): x with a number in the slices that `positions`, a list, names.
--   fp8.zeros(3):index_fill(1, fp8.tensor({2, 0}, {dtype = "i64"}), 7) --> {7, 0, 7}
--   fp8.zeros(3):index_fill_(1, fp8.tensor({1}, {dtype = "i64"}), 7) --> {0, 7, 0}
putting("index_fill", function(name, value)
  check_number(name, value)
  return value
end, function(node, grad, positions) return cleared(grad, node.dimension, positions) end)

local known_options = {alpha = "number"}
local check_options = require "fp8.check_options"

--- x:index_add(dim, positions, source [, {alpha =}]): x plus `alpha` (1 if left out) times the slices of `source`, each
-- where the list `positions` says. Sums of floats are float32, in the order of the list, rounded once; integers wrap.
--   fp8.zeros(3):index_add(1, fp8.tensor({2, 0, 2}, {dtype = "i64"}), fp8.tensor {5, 6, 7}) --> {6, 0, 12}
--   fp8.ones(2):index_add_(1, fp8.tensor({1}, {dtype = "i64"}), fp8.tensor {3}, {alpha = -1}) --> {1, -2}
putting("index_add", function(name, source, options)
  check.tensor(name, 4, source)
  local alpha = check_options(name, options, known_options).alpha
  if alpha == nil or alpha == 1 then return source end
  if core.dtypes[core.dtype(source)].kind ~= "integer" then source = copy.to(source, "f32") end
  return elementwise.mul(source, alpha)
end, function(node, grad, positions)
  return grad, node.inputs[2] and core.index_select(grad, node.dimension, positions)
end)

-- Positions, one tensor of integers a leading dimension of a shape, as a list of positions in these dimensions taken in
-- a row, and the shape that they broadcast to. Each is looked up, so that one that is out of range is told by itself.
local function flat_positions(name, shape, list)
  if type(list) ~= "table" then
    raise(("%s: argument 2: a list of tensors is needed, got %s"):format(name, type(list)))
  end
  local count = #check.list(name, "the positions", list)
  if count == 0 or count > #shape then
    raise(("%s: 1 to %d tensors of positions are needed, got %d"):format(name, #shape, count))
  end
  local whole = {}
  for i = 1, count do
    check.tensor(name .. ": the positions", i, list[i])
    whole = broadcast.shape(name, whole, core.shape(list[i]))
  end
  local flat, step = nil, 1
  for i = count, 1, -1 do
    local own = core.view(core.contiguous(core.expand(list[i], whole)), {-1})
    if count > 1 then
      local on = {dtype = "i64", device = core.device(list[i])}
      own = core.index_select(core.mul(core.arange(shape[i], on), step), 1, own)
    end
    flat, step = flat and core.add(flat, own) or own, step * shape[i]
  end
  return flat, whole
end

-- (product of the first sizes, the rest…)
local function leading_shape(shape, count)
  local rows, result = 1, {}
  for i = 1, #shape do
    if i <= count then rows = rows * shape[i] else result[#result + 1] = shape[i] end
  end
  table.insert(result, 1, rows)
  return result
end

-- `values`, a tensor or a number, in the shape (number of positions, rest…), where it broadcasts to (whole…, rest…).
local function rows_of(name, x, values, whole, rest)
  if not core.is_tensor(values) then
    check_number(name, values)
    values = core.full({}, values, {dtype = core.dtype(x), device = core.device(x)})
  end
  local target, rows, count = {unpack(whole)}, {1}, 1
  for i = 1, #whole do count = count * whole[i] end
  for i = 2, #rest do target[#target + 1], rows[i] = rest[i], rest[i] end
  rows[1] = count
  broadcast.check(name, "values", core.shape(values), target)
  return view.reshape(view.expand(values, target), rows)
end

--- x:index_put(positions, values [, accumulate]): x with the values, a tensor or a number, where a list of tensors of
-- positions says, one for each of the first dimensions; the positions broadcast to one shape, and the values to that
-- with the rest of x's. With true for `accumulate` they are added instead, as index_add does.
--   fp8.zeros(2, 2):index_put({fp8.arange(2, {dtype = "i64"}), fp8.arange(2, {dtype = "i64"})}, 5) --> {{5, 0}, {0, 5}}
--   fp8.zeros(2):index_put({fp8.tensor({1, 1}, {dtype = "i64"})}, fp8.tensor {5, 6}, true) --> {0, 11}
--   fp8.zeros(2):index_put_({fp8.tensor({1}, {dtype = "i64"})}, 5) --> {0, 5}
function put.index_put(x, positions, values, accumulate)
  check.tensor("index_put", 1, x)
  if accumulate ~= nil and type(accumulate) ~= "boolean" then
    raise("index_put: argument 4: boolean expected, got " .. type(accumulate))
  end
  local shape = core.shape(x)
  local flat, whole = flat_positions("index_put", shape, positions)
  local leading = leading_shape(shape, #positions)
  local rows = rows_of("index_put", x, values, whole, leading)
  local y = (accumulate and put.index_add or put.index_copy)(view.reshape(x, leading), 1, flat, rows)
  return view.view(y, shape)
end

--- x:put(positions, values [, accumulate]): x with the values at positions of its elements taken in a row, as x:take
-- counts them; with true for `accumulate` they are added. As many values as positions, or a number.
--   fp8.zeros(2, 2):put(fp8.tensor({3, 0}, {dtype = "i64"}), fp8.tensor {5, 6}) --> {{6, 0}, {0, 5}}
--   fp8.zeros(2):put_(fp8.tensor({1}, {dtype = "i64"}), 5) --> {0, 5}
function put.put(x, positions, values, accumulate)
  check.tensor("put", 1, x)
  check.tensor("put", 2, positions)
  if core.is_tensor(values) then
    if core.numel(values) ~= core.numel(positions) then
      raise(("put: %d values for %d positions"):format(core.numel(values), core.numel(positions)))
    end
    values = view.reshape(values, -1)
  end
  local flat = core.view(core.contiguous(positions), {-1})
  return view.view(put.index_put(view.reshape(x, -1), {flat}, values, accumulate), core.shape(x))
end

--- x:masked_scatter(mask, source): x with the elements of `source`, in a row, where a u8 tensor that broadcasts to x is
-- not 0. It waits for the device: the mask says how many are needed.
--   fp8.zeros(3):masked_scatter(fp8.tensor({1, 0, 1}, {dtype = "u8"}), fp8.tensor {5, 6}) --> {5, 0, 6}
--   fp8.zeros(2):masked_scatter_(fp8.tensor({0, 1}, {dtype = "u8"}), fp8.tensor {5}) --> {0, 5}
function put.masked_scatter(x, mask, source)
  check.tensor("masked_scatter", 1, x)
  check.mask("masked_scatter", 2, mask)
  check.tensor("masked_scatter", 3, source)
  local shape = core.shape(x)
  broadcast.check("masked_scatter", "a mask", core.shape(mask), shape)
  local positions = positions_of(core.expand(mask, shape))
  local count = core.numel(positions)
  if core.numel(source) < count then
    raise(("masked_scatter: the mask has %d places, the source %d elements"):format(count, core.numel(source)))
  end
  local values = view.narrow(view.reshape(source, -1), 1, 1, count)
  return view.view(put.index_copy(view.reshape(x, -1), 1, positions, values), shape)
end

-- In place, by a copy of the result.
local function by_copy(name, compute)
  put[name .. "_"] = function(x, places, values, ...)
    check_in_place(name .. "_", x, values)
    return core.copy_(x, autograd.no_grad(compute, x, places, values, ...))
  end
end

by_copy("index_put", put.index_put)
by_copy("put", put.put)
by_copy("masked_scatter", put.masked_scatter)


return put

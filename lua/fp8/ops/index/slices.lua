--- x[key] and x[key] = value. The key is
--
--   a number               a position of the first dimension, from 1, or from the end if negative: that slice, a view
--   a list {…}             an entry for each of the first dimensions: a number selects; {first, last} is a range, both
--                          ends included, {first, last, step} every step-th of it; {} is everything: a view
--   a u8 tensor            a mask of the first dimensions: the slices where it is not 0, in a row, as a copy
--   an i32 or i64 tensor   positions of the first dimension, from 0 as in index_select, of any shape: a copy
--
-- What is assigned is a number or a tensor that broadcasts. Gradients follow an assignment: to the value, and to what x
-- was made from but for what was overwritten.
local core = require "fp8.core"
local assign = require "fp8.ops.index.assign"
local check = require "fp8.ops.check"
local copy = require "fp8.ops.copy"
local elementwise = require "fp8.ops.elementwise"
local list_length = require "fp8.list_length"
local pick = require "fp8.ops.index.pick"
local positions_of = require "fp8.ops.index.mask"
local put = require "fp8.ops.index.put"
local shape_text = require("fp8.shapes").text
local view = require "fp8.ops.view"

local raise = core.raise

local slices = {}

-- A position from 1 on of a dimension that has `size`, up to `last`.
local function check_position(dimension, size, position, last)
  if type(position) ~= "number" or position ~= math.floor(position) then
    raise(("tensor: an index must be a whole number, got %s"):format(tostring(position)))
  end
  local found = position < 0 and position + size + 1 or position
  if found < 1 or found > last then
    local there = size == 0 and "none" or ("1 to %d, or -1 to -%d from the end"):format(size, size)
    raise(("tensor: index %.14g is out of range: dimension %d has %s"):format(position, dimension, there))
  end
  return found
end

-- {first, last [, step]} as where it starts, how many positions it has, and the step.
local function check_range(dimension, size, range)
  local count = list_length("tensor: a range", range)
  if count ~= 2 and count ~= 3 then
    raise(("tensor: a range is {first, last} or {first, last, step}, and {} everything, got %d numbers"):format(count))
  end
  local first, last, step = check_position(dimension, size, range[1], size + 1), range[2], range[3] or 1
  if last == first - 1 then return first, 0, 1 end
  last = check_position(dimension, size, last, size)
  check.whole("tensor", "the step of a range", step, 1)
  if last < first - 1 then
    raise(("tensor: the range from %d to %d ends before it starts"):format(first, last))
  end
  return first, math.ceil((last - first + 1) / step), step
end

-- The views that a list stands for, one after the other: {select = true, dimension =, position =} or {dimension =,
-- start =, length =, step =}.
local function steps_of(x, list)
  local shape, steps, dimension = core.shape(x), {}, 1
  local count = list_length("tensor: the indices", list)
  if count > #shape then
    raise(("tensor: %d indices of a tensor of shape %s"):format(count, shape_text(shape)))
  end
  for i = 1, count do
    local entry, size = list[i], shape[i]
    if type(entry) == "table" and next(entry) ~= nil then
      local start, length, step = check_range(i, size, entry)
      steps[#steps + 1] = {dimension = dimension, start = start, length = length, step = step}
    elseif type(entry) == "number" then
      steps[#steps + 1] = {select = true, dimension = dimension, position = check_position(i, size, entry, size)}
      dimension = dimension - 1
    elseif type(entry) ~= "table" then
      raise(("tensor: index %d must be a number, {first, last} or {}, got %s"):format(i, core.is_tensor(entry) and
        "a tensor; use index_select or index_put" or type(entry)))
    end
    dimension = dimension + 1
  end
  return steps
end

-- A view, by the functions of `library`: those that are recorded, or the core's.
local function cut(x, steps, library)
  local y = library.expand(x, core.shape(x))
  for _, step in ipairs(steps) do
    local part
    if step.select then
      part = library.select(y, step.dimension, step.position)
    else
      part = library.narrow(y, step.dimension, step.start, step.length, step.step)
    end
    core.free(y)
    y = part
  end
  return y
end

-- The shape that a mask or positions pick, and an error unless the mask fits x.
local function check_picks(x, key)
  local shape, own = core.shape(x), core.shape(key)
  if core.dtype(key) ~= "u8" then
    if core.dtypes[core.dtype(key)].kind ~= "integer" then
      raise(("tensor: a tensor of indices must be i64 or i32, and a mask u8, got %s"):format(core.dtype(key)))
    end
    if #shape == 0 then raise "tensor: a tensor without dimensions has no indices" end
    return
  end
  local fits = #own <= #shape
  for i = 1, #own do fits = fits and own[i] == shape[i] end
  if not fits then
    raise(("tensor: a mask of shape %s does not fit the first dimensions of shape %s"):format(shape_text(own),
      shape_text(shape)))
  end
end

-- x with the dimensions of a mask as one.
local function flattened(x, mask)
  local shape = {core.numel(mask)}
  for i = core.rank(mask) + 1, core.rank(x) do shape[#shape + 1] = core.size(x, i) end
  return view.reshape(x, shape)
end

local function read_tensor(x, key)
  check_picks(x, key)
  if core.dtype(key) == "u8" then return pick.index_select(flattened(x, key), 1, positions_of(key)) end
  local shape = core.shape(key)
  for i = 2, core.rank(x) do shape[#shape + 1] = core.size(x, i) end
  return view.view(pick.index_select(x, 1, core.view(core.contiguous(key), {-1})), shape)
end

-- x after the assignment, as a new tensor.
local function with_values(x, key, value)
  if core.dtype(key) ~= "u8" then return put.index_put(x, {key}, value) end
  local shape = core.shape(key)
  while #shape < core.rank(x) do shape[#shape + 1] = 1 end
  local mask = core.view(core.contiguous(key), shape)
  if not core.is_tensor(value) then return elementwise.where(mask, value, x) end
  local rows = flattened(x, key)
  return view.view(put.index_put(rows, {positions_of(key)}, value), core.shape(x))
end

-- What a key that is no position stands for, in errors and checks.
local function check_value(value)
  if not core.is_tensor(value) and type(value) ~= "number" and type(value) ~= "cdata" then
    raise(("tensor: a number or a tensor is needed to assign, got %s"):format(type(value)))
  end
end

--- x[key]
function slices.read(x, key)
  if type(key) == "number" then
    if core.rank(x) == 0 then raise "tensor: a tensor without dimensions has no indices" end
    local size = core.size(x, 1)
    return view.select(x, 1, check_position(1, size, key, size))
  elseif type(key) == "table" then
    return cut(x, steps_of(x, key), view)
  end
  return read_tensor(x, key)
end

--- x[key] = value
function slices.write(x, key, value)
  check_value(value)
  if type(key) == "number" then
    if core.rank(x) == 0 then raise "tensor: a tensor without dimensions has no indices" end
    local size = core.size(x, 1)
    local position = check_position(1, size, key, size)
    return assign(x, function(whole) return core.select(whole, 1, position) end, value)
  elseif type(key) == "table" then
    local steps = steps_of(x, key)
    return assign(x, function(whole) return cut(whole, steps, core) end, value)
  end
  check_picks(x, key)
  if core.is_tensor(value) and core.dtype(value) ~= core.dtype(x) then value = copy.to(value, core.dtype(x)) end
  assign(x, nil, with_values(x, key, value))
end

local function next_row(x, i)
  if i < core.size(x, 1) then return i + 1, view.select(x, 1, i + 1) end
end

--- for i, row in x:rows() do … end: the positions of the first dimension, from 1, and views of its slices.
--   (function() for i, row in fp8.tensor({{1}, {2}}):rows() do if i == 2 then return row end end end)() --> {2}
function slices.rows(x)
  check.tensor("rows", 1, x)
  if core.rank(x) == 0 then raise "rows: a tensor without dimensions has no rows" end
  return next_row, x, 0
end

return slices

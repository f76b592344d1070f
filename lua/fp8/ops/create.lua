--- Tensors like another one (its shape, and its dtype and device unless the options say otherwise), and of a pattern.
local check_options = require "fp8.check_options"
local check = require "fp8.ops.check"
local core = require "fp8.core"
local view = require "fp8.ops.view"

local create = {}

local known_options = {dtype = true, device = "device", requires_grad = true}

local function options_like(caller, x, options)
  local complete = {dtype = core.dtype(x), device = core.device(x)}
  for name, value in pairs(check_options(caller, options, known_options)) do complete[name] = value end
  return complete
end

--- fp8.zeros_like(x [, {dtype =, device =, requires_grad =}]), and so the others; empty_like is not initialised.
--   fp8.zeros_like(fp8.tensor {1, 2}) --> {0, 0}
--   fp8.ones_like(fp8.tensor {1, 2}) --> {1, 1}
--   fp8.empty_like(fp8.tensor {1, 2}).shape --> {2}
--   fp8.rand_like(fp8.tensor {1, 2}).shape --> {2}
--   fp8.randn_like(fp8.tensor {1, 2}, {dtype = "bf16"}).dtype --> "bf16"
for _, name in ipairs {"zeros", "ones", "empty", "rand", "randn"} do
  local make, caller = core[name], name .. "_like"
  create[caller] = function(x, options) return make(core.shape(x), options_like(caller, x, options)) end
end

--- fp8.full_like(x, value [, options])
--   fp8.full_like(fp8.tensor {1, 2}, 7) --> {7, 7}
function create.full_like(x, value, options)
  return core.full(core.shape(x), value, options_like("full_like", x, options))
end

--- fp8.eye(n [, m] [, options]): ones on the diagonal of a matrix of n rows and m columns (n if left out), and zeros.
--   fp8.eye(2) --> {{1, 0}, {0, 1}}
--   fp8.eye(2, 3, {dtype = "i64"}) --> {{1, 0, 0}, {0, 1, 0}}
function create.eye(rows, columns, options)
  if type(columns) == "table" then columns, options = nil, columns end
  if columns == nil then columns = rows end
  check.whole("eye", "the number of rows", rows, 0)
  check.whole("eye", "the number of columns", columns, 0)
  local y = core.zeros({rows, columns}, options)
  local on = {dtype = "i64", device = core.device(y)}
  core.copy_(y, core.eq(core.arange(columns, on), core.view(core.arange(rows, on), rows, 1)))
  return y
end

--- fp8.randperm(n [, {device =}]): the numbers from 0 to n - 1 in any order, as i64.
--   fp8.randperm(4):sort() --> {0, 1, 2, 3}
function create.randperm(count, options)
  check.whole("randperm", "the number of positions", count, 0)
  local on = {dtype = "i64", device = check_options("randperm", options, {device = "device"}).device}
  local _, order = core.sort(core.randint(0, 0x7fffffffffffffffLL, {count}, on), 1, false)
  return order
end

-- Which elements of a matrix of so many rows and columns `keeps` their column less their row: row and column of each.
local function indices(name, keeps)
  return function(rows, columns, diagonal, options)
    if type(diagonal) == "table" then diagonal, options = nil, diagonal end
    check.whole(name, "the number of rows", rows, 0)
    check.whole(name, "the number of columns", columns, 0)
    diagonal = check.whole(name, "the diagonal", diagonal or 0, -2 ^ 53)
    local on = {dtype = "i64", device = check_options(name, options, {device = "device"}).device}
    local across = core.sub(core.arange(columns, on), core.view(core.arange(rows, on), rows, 1))
    return core.contiguous(core.t(core.nonzero(keeps(across, diagonal))))
  end
end

--- fp8.triu_indices(rows, columns [, diagonal] [, {device =}]), fp8.tril_indices(…): the places of the elements that
-- x:triu and x:tril keep, two rows of i64: those of the rows and of the columns, from 0.
--   fp8.triu_indices(2, 2) --> {{0, 0, 1}, {0, 1, 1}}
--   fp8.tril_indices(2, 2, -1) --> {{1}, {0}}
create.triu_indices, create.tril_indices = indices("triu_indices", core.ge), indices("tril_indices", core.le)

local function check_bound(bound)
  if type(bound) ~= "number" or bound - bound ~= 0 then
    core.raise("linspace: start and stop must be finite numbers, got " .. tostring(bound))
  end
end

--- fp8.linspace(start, stop, steps [, options]): so many numbers at equal distances, both ends included; of a
-- floating-point dtype.
--   fp8.linspace(0, 1, 5) --> {0, 0.25, 0.5, 0.75, 1}
function create.linspace(start, stop, steps, options)
  check_bound(start)
  check_bound(stop)
  check.whole("linspace", "the number of steps", steps, 0)
  if type(options) == "table" and core.dtypes[options.dtype] and core.dtypes[options.dtype].kind == "integer" then
    core.raise("linspace: a floating-point dtype is needed, got " .. options.dtype)
  end
  local step = steps > 1 and (stop - start) / (steps - 1) or 0
  if step == 0 then return core.full({steps}, start, options) end
  local y = core.arange(start, start + (steps - 0.5) * step, step, options)
  if core.numel(y) ~= steps then core.raise "linspace: the numbers are closer together than doubles can be" end
  return y
end

--- fp8.logspace(start, stop, steps [, base] [, options]): base^start to base^stop (10 if left out), the exponents at
-- equal distances.
--   fp8.logspace(0, 2, 3) --> {1, 10, 100}
--   fp8.logspace(-1, 2, 4, 2) --> {0.5, 1, 2, 4}
function create.logspace(start, stop, steps, base, options)
  if type(base) == "table" then base, options = nil, base end
  base = base == nil and 10 or base
  if type(base) ~= "number" or not (base > 0 and base < math.huge) then
    core.raise("logspace: the base must be a finite number above 0, got " .. tostring(base))
  end
  options = check_options("logspace", options, known_options)
  local y = core.pow(base, create.linspace(start, stop, steps, {dtype = "f32", device = options.device}))
  y = core.to(y, {dtype = core.dtype(core.empty({0}, {dtype = options.dtype}))})
  if options.requires_grad then core.set_requires_grad(y, true) end
  return y
end

--- fp8.one_hot(x [, classes]): for integers x from 0 up to below `classes`, of any shape, a row of i64 with 1 at that
-- position and 0 elsewhere: x's shape and (classes). Without `classes`, one more than the largest, for which the device
-- is waited for. Others are an error: on a GPU, of what waits for it next.
--   fp8.one_hot(fp8.tensor({2, 0}, {dtype = "i64"}), 3) --> {{0, 0, 1}, {1, 0, 0}}
function create.one_hot(x, classes)
  check.tensor("one_hot", 1, x)
  if core.dtypes[core.dtype(x)].kind ~= "integer" then
    core.raise("one_hot: integers are needed, got " .. core.dtype(x))
  end
  if classes == nil then
    if core.numel(x) == 0 then core.raise "one_hot: how many classes there are must be given for no elements" end
    classes = tonumber(core.item(core.max(x))) + 1
  end
  check.whole("one_hot", "the number of classes", classes, 1)
  local shape, count = core.shape(x), core.numel(x)
  local rows = core.zeros({count, classes}, {dtype = "i64", device = core.device(x)})
  core.scatter_(rows, 2, core.view(core.contiguous(x), count, 1), 1)
  shape[#shape + 1] = classes
  return core.view(rows, shape)
end

--- fp8.meshgrid(list [, indexing]): of vectors of lengths n1, n2, … views of shape (n1, n2, …), each of which holds one
-- vector along its own dimension; with "xy" for `indexing` (in place of "ij") the first two dimensions are exchanged.
--   fp8.meshgrid({fp8.tensor {1, 2}, fp8.tensor {3, 4}}) --> {{{1, 1}, {2, 2}}, {{3, 4}, {3, 4}}}
function create.meshgrid(list, indexing)
  if type(list) ~= "table" then core.raise("meshgrid: a list of tensors is needed, got " .. type(list)) end
  if indexing ~= nil and indexing ~= "ij" and indexing ~= "xy" then
    core.raise("meshgrid: indexing must be ij or xy, got " .. tostring(indexing))
  end
  local shape, grids = {}, {}
  for i, x in ipairs(check.list("meshgrid", "the tensors", list)) do
    if core.is_tensor(x) and core.rank(x) == 0 then x = view.view(x, 1) end
    shape[i] = core.numel(check.tensor("meshgrid", i, x, 1))
    grids[i] = x
  end
  local rank = #shape
  for i, x in ipairs(grids) do
    local own = {}
    for k = 1, rank do own[k] = k == i and shape[i] or 1 end
    local grid = view.expand(view.reshape(x, own), shape)
    grids[i] = indexing == "xy" and rank > 1 and view.transpose(grid, 1, 2) or grid
  end
  return grids
end

return create

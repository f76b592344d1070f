--- Products of tensors along dimensions of the caller's choice, and distances.
local broadcast = require "fp8.ops.index.broadcast"
local check = require "fp8.ops.check"
local core = require "fp8.core"
local elementwise = require "fp8.ops.elementwise"
local in_float32 = require "fp8.ops.in_float32"
local join = require "fp8.ops.join"
local matmul = require("fp8.ops.matmul.matmul").matmul
local reduce = require "fp8.ops.reduce"
local shape_text = require("fp8.shapes").text
local view = require "fp8.ops.view"

local raise = core.raise

local tensor_products = {}

--- a:kron(b): the Kronecker product, each element of a times the whole of b, in the place of that element; of up to
-- four dimensions, leading ones of size 1 are added where one has fewer.
--   fp8.tensor({1, 10}):kron(fp8.tensor {1, 2}) --> {1, 2, 10, 20}
function tensor_products.kron(a, b)
  check.tensor("kron", 1, a)
  check.tensor("kron", 2, b)
  local left, right = core.shape(a), core.shape(b)
  while #left < #right do table.insert(left, 1, 1) end
  while #right < #left do table.insert(right, 1, 1) end
  if #left > 4 then raise(("kron: at most 4 dimensions can be multiplied, got %d"):format(#left)) end
  local whole, between, within = {}, {}, {}
  for i = 1, #left do
    whole[i] = left[i] * right[i]
    between[2 * i - 1], between[2 * i] = left[i], 1
    within[2 * i - 1], within[2 * i] = 1, right[i]
  end
  return view.reshape(elementwise.mul(view.reshape(a, between), view.reshape(b, within)), whole)
end

--- a:inner(b): products of vectors along the last dimensions of a and b, which must be of one size: the shape is that
-- of a without its last dimension, then that of b without its. A number times a tensor where one has no dimensions.
--   fp8.tensor({{1, 2}, {3, 4}}):inner(fp8.tensor {1, 10}) --> {21, 43}
function tensor_products.inner(a, b)
  check.tensor("inner", 1, a)
  check.tensor("inner", 2, b)
  if core.rank(a) == 0 or core.rank(b) == 0 then return elementwise.mul(a, b) end
  local left, right = core.shape(a), core.shape(b)
  local size = table.remove(left)
  if table.remove(right) ~= size then
    raise(("inner: shapes %s and %s: %d and %d differ"):format(shape_text(core.shape(a)), shape_text(core.shape(b)),
      size, core.size(b, -1)))
  end
  local rows, columns = 1, 1
  for _, count in ipairs(left) do rows = rows * count end
  for _, count in ipairs(right) do
    columns = columns * count
    left[#left + 1] = count
  end
  local product = matmul(view.reshape(a, rows, size), view.t(view.reshape(b, columns, size)))
  return view.reshape(product, left)
end

local function cross(a, b, dimension)
  local function component(x, i) return view.narrow(x, dimension, i, 1) end
  local parts = {}
  for i = 1, 3 do
    local second, third = i % 3 + 1, (i + 1) % 3 + 1
    parts[i] = elementwise.sub(elementwise.mul(component(a, second), component(b, third)),
      elementwise.mul(component(a, third), component(b, second)))
  end
  return join.cat(parts, dimension)
end

--- a:cross(b [, dim]): the vector products of vectors of 3 along a dimension (the last if left out); the others
-- broadcast.
--   fp8.tensor({1, 0, 0}):cross(fp8.tensor {0, 1, 0}) --> {0, 0, 1}
function tensor_products.cross(a, b, dimension)
  dimension = check.dimension("cross", a, dimension or -1)
  check.tensor("cross", 2, b, core.rank(a))
  if core.size(a, dimension) ~= 3 or core.size(b, dimension) ~= 3 then
    raise(("cross: dimension %d must have size 3, got shapes %s and %s"):format(dimension, shape_text(core.shape(a)),
      shape_text(core.shape(b))))
  end
  return in_float32(cross, a, b, dimension)
end

-- The dimensions that are summed over as lists: the last `count` of a and the first of b, or what is given.
local function summed(a, b, dimensions)
  if type(dimensions) == "table" then
    local first = check.list("tensordot", "the dimensions of the first", dimensions[1])
    local second = check.list("tensordot", "the dimensions of the second", dimensions[2])
    if #first ~= #second then raise(("tensordot: %d dimensions and %d"):format(#first, #second)) end
    return {unpack(first)}, {unpack(second)}
  end
  local count = check.whole("tensordot", "the number of dimensions", dimensions == nil and 2 or dimensions, 0)
  if count > core.rank(a) or count > core.rank(b) then
    raise(("tensordot: %d dimensions of shapes %s and %s"):format(count, shape_text(core.shape(a)),
      shape_text(core.shape(b))))
  end
  local first, second = {}, {}
  for i = 1, count do first[i], second[i] = core.rank(a) - count + i, i end
  return first, second
end

-- x as a matrix with the listed dimensions last, or first, and the sizes of the others.
local function as_matrix(x, list, last)
  local is_listed, kept, sizes, order, count = {}, {}, {}, {}, 1
  for i, dimension in ipairs(list) do
    list[i] = check.dimension("tensordot", x, dimension)
    if is_listed[list[i]] then raise(("tensordot: dimension %d is given twice"):format(list[i])) end
    is_listed[list[i]], count = true, count * core.size(x, list[i])
  end
  for dimension = 1, core.rank(x) do
    if not is_listed[dimension] then kept[#kept + 1], sizes[#sizes + 1] = dimension, core.size(x, dimension) end
  end
  for _, part in ipairs(last and {kept, list} or {list, kept}) do
    for _, dimension in ipairs(part) do order[#order + 1] = dimension end
  end
  local rest = 1
  for _, size in ipairs(sizes) do rest = rest * size end
  local turned = #order > 0 and view.permute(x, order) or x
  return view.reshape(turned, last and {rest, count} or {count, rest}), sizes
end

--- a:tensordot(b [, dims]): the sums of products over the last `dims` dimensions of a and the first of b (2 if left
-- out), or over the dimensions {of a, of b}, each a list; the others of a come first in the result, then those of b.
-- One dtype of f32, f16 and bf16.
--   fp8.ones(2, 3, 4):tensordot(fp8.ones(3, 4, 5)).shape --> {2, 5}
--   fp8.ones(2, 3):tensordot(fp8.ones(4, 2), {{1}, {2}}).shape --> {3, 4}
function tensor_products.tensordot(a, b, dimensions)
  check.tensor("tensordot", 1, a)
  check.tensor("tensordot", 2, b)
  local first, second = summed(a, b, dimensions)
  local left, shape = as_matrix(a, first, true)
  local right, others = as_matrix(b, second, false)
  for i = 1, #first do
    if core.size(a, first[i]) ~= core.size(b, second[i]) then
      raise(("tensordot: shapes %s and %s: %d and %d differ"):format(shape_text(core.shape(a)),
        shape_text(core.shape(b)), core.size(a, first[i]), core.size(b, second[i])))
    end
  end
  for _, size in ipairs(others) do shape[#shape + 1] = size end
  return view.reshape(matmul(left, right), shape)
end

local function distances(a, b, p)
  return reduce.norm(elementwise.sub(view.unsqueeze(a, -2), view.unsqueeze(b, -3)), p, -1)
end

--- a:cdist(b [, p]): the distances (…, m, n), by the p-norm (2 if left out), of each of the vectors a (…, m, features)
-- from each of b (…, n, features). It takes as much memory as all their differences.
--   fp8.tensor({{0, 0}, {3, 0}}):cdist(fp8.tensor {{0, 4}}) --> {{4}, {5}}
function tensor_products.cdist(a, b, p)
  for position, x in ipairs {a, b} do
    check.tensor("cdist", position, x)
    if core.rank(x) < 2 then
      raise(("cdist: argument %d: vectors in a matrix are needed, got shape %s"):format(position,
        shape_text(core.shape(x))))
    end
  end
  check.tensor("cdist", 2, b)
  return in_float32(distances, a, b, p)
end

-- Along a dimension, which stays, of f32 tensors.
local function norm_of(x, p, dimension, epsilon)
  return elementwise.clamp(reduce.norm(x, p, dimension, true), epsilon, nil)
end

--- x:normalize([p [, dim [, epsilon]]]): x over its p-norm (2 if left out) along a dimension (2), or over epsilon
-- (1e-12) where the norm is smaller.
--   fp8.tensor({{3, 4}, {0, 2}}):normalize() --> {{0.6, 0.8}, {0, 1}}
function tensor_products.normalize(x, p, dimension, epsilon)
  dimension = check.dimension("normalize", x, dimension or 2)
  return in_float32(function(rows)
    return elementwise.div(rows, norm_of(rows, p == nil and 2 or p, dimension, epsilon or 1e-12))
  end, x)
end

--- a:cosine_similarity(b [, dim [, epsilon]]): Σ a · b over the product of their norms along a dimension (2 if left
-- out), neither of which counts as less than epsilon (1e-8); a and b broadcast, and have as many dimensions.
--   fp8.tensor({{3, 4}}):cosine_similarity(fp8.tensor {{4, 3}}) --> {0.96}
function tensor_products.cosine_similarity(a, b, dimension, epsilon)
  dimension = check.dimension("cosine_similarity", a, dimension or 2)
  check.tensor("cosine_similarity", 2, b, core.rank(a))
  local shape = broadcast.shape("cosine_similarity", core.shape(a), core.shape(b))
  a, b = view.expand(a, shape), view.expand(b, shape)
  return in_float32(function(first, second)
    local least = epsilon or 1e-8
    local left = elementwise.div(first, norm_of(first, 2, dimension, least))
    local right = elementwise.div(second, norm_of(second, 2, dimension, least))
    return reduce.sum(elementwise.mul(left, right), dimension)
  end, a, b)
end

return tensor_products

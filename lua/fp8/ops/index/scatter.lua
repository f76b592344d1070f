--- Elements put where an index of their own says: y[…, index[…, i, …], …] = source[…, i, …]. Positions count from 0.
-- The index has the sizes of the tensor and of the source or smaller ones, but for the dimension that it counts in.
local core = require "fp8.core"
local assign = require "fp8.ops.index.assign"
local as_row = require "fp8.ops.as_row"
local autograd = require "fp8.autograd"
local check = require "fp8.ops.check"
local check_options = require "fp8.check_options"
local copy = require "fp8.ops.copy"
local part_of = require "fp8.ops.index.part"

local check_in_place, needs_grad, record = autograd.check_in_place, autograd.needs_grad, autograd.record
local raise = core.raise

local scatter = {}

local function cleared(grad, dimension, positions)
  return core.scatter_(core.clone(grad), dimension, positions, 0)
end

local setting = {
  name = "scatter", shares = true,
  backward = function(node, grad, positions)
    local inputs = node.inputs
    return inputs[1] and cleared(grad, node.dimension, positions),
      inputs[2] and core.gather(grad, node.dimension, positions)
  end,
}

local adding = {
  name = "scatter_add", shares = true,
  backward = function(node, grad, positions)
    return grad, node.inputs[2] and core.gather(grad, node.dimension, positions)
  end,
}

-- What a rule leaves as it is, in place of elements that do not count.
local neutral = {sum = 0, prod = 1, amax = -math.huge, amin = math.huge}

-- 1 where two f32 tensors are equal, as f32.
local function equals(a, b) return core.to(core.eq(a, b), {dtype = "f32"}) end

-- The gradient of the largest, or smallest, element is shared evenly by those that are equal to it.
local function shares_of_extremes(x, source, y, grad, dimension, positions)
  local own, given = equals(x, y), equals(source, core.gather(y, dimension, positions))
  local count = core.scatter_add_(core.clone(own), dimension, positions, given)
  local share = core.div(grad, count)
  return core.mul(share, own), core.mul(core.gather(share, dimension, positions), given)
end

-- The product of all others: 0 where another one is 0, else the product of those that aren't, by the element if it is
-- not.
local function products_of_others(x, source, _, grad, dimension, positions)
  local zero, source_zero = equals(x, 0), equals(source, 0)
  local nonzero, source_nonzero = core.add(x, zero), core.add(source, source_zero)
  local zeros = core.scatter_add_(core.clone(zero), dimension, positions, source_zero)
  local product = core.scatter_reduce_(core.clone(nonzero), dimension, positions, source_nonzero, "prod")
  product = core.mul(grad, product)
  local function of_others(own_zero, own_nonzero, all_zeros, all_product)
    return core.where(core.gt(all_zeros, own_zero), 0, core.div(all_product, own_nonzero))
  end
  return of_others(zero, nonzero, zeros, product),
    of_others(source_zero, source_nonzero, core.gather(zeros, dimension, positions),
      core.gather(product, dimension, positions))
end

local reducing = {
  name = "scatter_reduce", shares = true,
  backward = function(node, grad, positions, x, source)
    local dimension, rule = node.dimension, node.rule
    local to_x, to_source
    if rule == "sum" then
      to_x, to_source = core.clone(grad), core.gather(grad, dimension, positions)
    else
      x, source, grad = core.to(x, {dtype = "f32"}), core.to(source, {dtype = "f32"}), core.to(grad, {dtype = "f32"})
      local start = core.clone(x)
      if not node.include_self then core.scatter_(start, dimension, positions, neutral[rule]) end
      local y = core.scatter_reduce_(core.clone(start), dimension, positions, source, rule)
      local derive = rule == "prod" and products_of_others or shares_of_extremes
      to_x, to_source = derive(start, source, y, grad, dimension, positions)
    end
    if not node.include_self then core.scatter_(to_x, dimension, positions, 0) end
    return to_x, to_source
  end,
}

-- f(x, source) of the parts of x and the source that the index speaks of; the rest of x is as it was.
local function on_parts(x, dimension, positions, source, f)
  local shape = core.shape(positions)
  if core.is_tensor(source) then source = part_of(source, shape) end
  local part = part_of(x, shape, dimension)
  if part == x then return f(x, source) end
  local y, result = copy.clone(x), f(part, source)
  assign(y, function(whole) return autograd.no_grad(part_of, whole, shape, dimension) end, result)
  return y
end

local function check_arguments(name, x, dimension, positions, source)
  check.dimension(name, x, dimension)
  check.tensor(name, 3, positions)
  if type(source) ~= "number" and type(source) ~= "cdata" then check.tensor(name, 4, source) end
end

-- One without further arguments, and its form in place.
local function scattering(name, operation)
  local own_name = name .. "_"
  local compute = core[own_name]
  scatter[name] = function(x, dimension, positions, source)
    if core.rank(x) == 0 then return as_row(scatter[name], x, dimension, positions, source) end
    check_arguments(name, x, dimension, positions, source)
    return on_parts(x, dimension, positions, source, function(part, values)
      local y = compute(core.clone(part), dimension, positions, values)
      if needs_grad(part, values) then record(y, operation, {part, values}, {positions}).dimension = dimension end
      return y
    end)
  end
  scatter[own_name] = function(x, dimension, positions, source)
    if core.rank(x) == 0 then
      as_row(scatter[own_name], x, dimension, positions, source)
      return x
    end
    check_arguments(own_name, x, dimension, positions, source)
    check_in_place(own_name, x, source)
    local shape = core.shape(positions)
    autograd.no_grad(function()
      if core.is_tensor(source) then source = part_of(source, shape) end
      compute(part_of(x, shape, dimension), dimension, positions, source)
    end)
    return x
  end
end

--- x:scatter(dim, positions, source): x with elements of `source`, a tensor or a number, in other places. Where a
-- position comes several times the last one stays (on a GPU only after fp8.set_deterministic(true), else one of them),
-- and each gets the gradient of that place, as in PyTorch.
--   fp8.zeros(3):scatter(1, fp8.tensor({2, 0}, {dtype = "i64"}), fp8.tensor {5, 6}) --> {6, 0, 5}
--   fp8.zeros(3):scatter_(1, fp8.tensor({2, 0}, {dtype = "i64"}), 7) --> {7, 0, 7}
scattering("scatter", setting)

--- x:scatter_add(dim, positions, source): x with elements of `source` added. Sums of floats are float32, rounded once,
-- on a GPU in an order that is the same in every run only after fp8.set_deterministic(true); integers wrap.
--   fp8.zeros(3):scatter_add(1, fp8.tensor({2, 0, 2}, {dtype = "i64"}), fp8.tensor {5, 6, 7}) --> {6, 0, 12}
--   fp8.ones(3):scatter_add_(1, fp8.tensor({2}, {dtype = "i64"}), fp8.tensor {5}) --> {1, 1, 6}
scattering("scatter_add", adding)

local known_options = {include_self = "boolean"}

local function check_reduce(name, x, dimension, positions, source, rule, options)
  check_arguments(name, x, dimension, positions, source)
  check.tensor(name, 4, source)
  if not neutral[rule] then
    raise(("%s: argument 5: sum, prod, amax or amin expected, got %s"):format(name, tostring(rule)))
  end
  return check_options(name, options, known_options).include_self ~= false
end

local function reduced(x, dimension, positions, source, rule, include_self)
  if not include_self then core.scatter_(x, dimension, positions, neutral[rule]) end
  return core.scatter_reduce_(x, dimension, positions, source, rule)
end

--- x:scatter_reduce(dim, positions, source, rule [, {include_self =}]): x with the sum, the product, the largest or the
-- smallest ("sum", "prod", "amax", "amin") of what is there and of the elements of `source` that come to it; without
-- what is there if include_self = false.
--   fp8.ones(2):scatter_reduce(1, fp8.tensor({1, 1}, {dtype = "i64"}), fp8.tensor {5, 6}, "prod") --> {1, 30}
--   fp8.ones(2):scatter_reduce_(1, fp8.tensor({1, 1}, {dtype = "i64"}), fp8.tensor {5, 6}, "amax") --> {1, 6}
function scatter.scatter_reduce(x, dimension, positions, source, rule, options)
  if core.rank(x) == 0 then return as_row(scatter.scatter_reduce, x, dimension, positions, source, rule, options) end
  local include_self = check_reduce("scatter_reduce", x, dimension, positions, source, rule, options)
  return on_parts(x, dimension, positions, source, function(part, values)
    local y = reduced(core.clone(part), dimension, positions, values, rule, include_self)
    if needs_grad(part, values) then
      local node = record(y, reducing, {part, values}, {positions, part, values})
      node.dimension, node.rule, node.include_self = dimension, rule, include_self
    end
    return y
  end)
end

function scatter.scatter_reduce_(x, dimension, positions, source, rule, options)
  if core.rank(x) == 0 then
    as_row(scatter.scatter_reduce_, x, dimension, positions, source, rule, options)
    return x
  end
  local include_self = check_reduce("scatter_reduce_", x, dimension, positions, source, rule, options)
  check_in_place("scatter_reduce_", x, source)
  return core.copy_(x, autograd.no_grad(on_parts, x, dimension, positions, source, function(part, values)
    return reduced(core.clone(part), dimension, positions, values, rule, include_self)
  end))
end

return scatter

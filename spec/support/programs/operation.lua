--- What the operations of random programs share. An operation is a table:
--
--   make(g, x)             arguments of a random call, from the generator (generate.lua) and the number of a variable
--                          that it picked; nil where x doesn't suit. A variable among them is {variable = its number}
--   compute(…)             the result by the reference, of the arguments as reference tensors and values: a view, or a
--                          new tensor, whose elements are numbers that have to come out exactly, bounds, or false for
--                          anything at all
--   gradient(node, dy)     by the position of an argument, the elements of the gradient that it gets from dy, both as
--                          lists of bounds: of the result's shape, or in that of the list's field `shape`
--   text                   of the call in Lua: "method" (the default), "function" of fp8, or a function of the texts of
--                          the arguments; field `statement` says that it has no value
--   takes(x)               whether a reference tensor suits `make` at all
--   first_input            position of the first argument that gradients pass to: 1 if there is none
--   in_place               whether the first argument is written to: `compute` does it, or gives a new tensor of what
--                          may be in it afterwards
local bound = require "spec.support.reference.bound"
local tensor = require "spec.support.reference.tensor"

local operation = {}

operation.floats = {f32 = true, f16 = true, bf16 = true}
operation.float_names = {"f32", "f32", "bf16", "f16"}
operation.dtypes = {"f32", "f32", "f32", "bf16", "bf16", "f16", "f16", "e4m3", "e5m2", "i32", "i64", "u8"}

function operation.var(number) return {variable = number} end

--- A new tensor of the reference. `any_zero`: zeros of either sign will do.
function operation.new(dtype, shape, list, any_zero)
  local x = tensor.new(dtype, shape, list)
  x.fresh, x.any_zero = true, any_zero
  return x
end

function operation.is_float(x) return not tensor.is_integer(x.dtype) end
function operation.is_computable(x) return operation.floats[x.dtype] ~= nil end
function operation.has_dimension(x) return #x.shape > 0 end

function operation.is_finite(value) return value == value and math.abs(value) ~= math.huge end

function operation.all_finite(list)
  for _, value in ipairs(list) do
    if not operation.is_finite(value) then return false end
  end
  return true
end

--- A function that rounds bounds to a dtype.
function operation.rounds_to(dtype)
  return function(a) return bound.to(dtype, a) end
end

--- The elements, as float32 values.
function operation.float_list(x)
  local list = tensor.list(x)
  for i = 1, #list do list[i] = tensor.float(list[i]) end
  return list
end

--- f of each element of lists of one length.
function operation.map(f, first, ...)
  local result = {}
  local second, third = ...
  for i = 1, #first do
    if second then result[i] = f(first[i], second[i], third and third[i]) else result[i] = f(first[i]) end
  end
  return result
end

--- Elements that have been computed, those that are numbers rounded to a dtype.
function operation.stored(list, dtype)
  for i, value in ipairs(list) do
    if type(value) == "number" then list[i] = tensor.cast(value, dtype) end
  end
  return list
end

--- A copy with an element changed, or inserted before it, or removed.
function operation.with(list, position, value)
  local copy = {unpack(list)}
  copy[position] = value
  return copy
end

function operation.without(list, position)
  local copy = {unpack(list)}
  table.remove(copy, position)
  return copy
end

--- A dimension counted from 1 or, half of the time, from the end.
function operation.dimension(g, rank)
  local d = g.random(rank)
  return g.random(2) == 1 and d or d - rank - 1
end

--- The same, counted from 1.
function operation.from_first(d, rank) return d < 0 and d + rank + 1 or d end

--- The shape that two broadcast to, nil where they don't.
function operation.broadcast(a, b)
  local shape = {}
  for d = 1, math.max(#a, #b) do
    local left, right = a[#a - d + 1] or 1, b[#b - d + 1] or 1
    if left ~= right and left ~= 1 and right ~= 1 then return nil end
    table.insert(shape, 1, left == 1 and right or left)
  end
  return shape
end

function operation.broadcasts_to(shape, target)
  local merged = operation.broadcast(shape, target)
  return merged ~= nil and table.concat(merged, ",") == table.concat(target, ",")
end

--- Splits positions 1 … count(shape) into rows along a set of dimensions: a list of {positions of the row's elements},
-- both in row-major order, and the shape that is left, with size 1 or without the dimensions.
function operation.rows(shape, reduced)
  local numbers = {}
  for i = 1, tensor.count(shape) do numbers[i] = i end
  local x = tensor.new("f32", shape, numbers)
  local kept, gone = {shape = {}, stride = {}}, {shape = {}, stride = {}}
  local without, with = {}, {}
  for d, size in ipairs(shape) do
    local part = reduced[d] and gone or kept
    table.insert(part.shape, size)
    table.insert(part.stride, x.stride[d])
    with[d] = reduced[d] and 1 or size
    if not reduced[d] then table.insert(without, size) end
  end
  local rows = {}
  for i, start in ipairs(tensor.positions(tensor.view(x, kept.shape, kept.stride))) do
    rows[i] = tensor.positions(tensor.view(x, gone.shape, gone.stride, start - 1))
  end
  return rows, without, with
end

--- The elements of a list at positions.
function operation.at(list, positions)
  local result = {}
  for i, position in ipairs(positions) do result[i] = list[position] end
  return result
end

return operation

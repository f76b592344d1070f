--- Operands of elementwise operations: tensors and numbers.
local elementwise = require "spec.support.reference.elementwise"
local integers = require "spec.support.integers"
local operation = require "spec.support.programs.operation"
local reference = require "spec.support.reference"
local tensor = require "spec.support.reference.tensor"

local map, var = operation.map, operation.var
local f32, is_integer = reference.f32, tensor.is_integer

local operands = {}

--- The elements of an operand expanded to a shape; a number repeated.
function operands.expanded(operand, shape)
  if type(operand) ~= "number" then return tensor.list(tensor.expand(operand, shape)) end
  local list = {}
  for i = 1, tensor.count(shape) do list[i] = operand end
  return list
end

local function is_number(value) return type(value) == "number" end

operands.is_number = is_number

--- The dtype that two operands meet in: a number takes the tensor's, but a fraction makes integers f32.
function operands.meeting(a, b)
  if is_number(a) and is_number(b) then return "f32" end
  if is_number(a) then a, b = b, a end
  if not is_number(b) then return elementwise.promoted(a.dtype, b.dtype) end
  return is_integer(a.dtype) and b ~= math.floor(b) and "f32" or a.dtype
end

function operands.shape_of(a, b)
  if is_number(a) then return is_number(b) and {} or b.shape end
  return is_number(b) and a.shape or operation.broadcast(a.shape, b.shape)
end

--- A number as an operand beside a tensor of a float dtype, where float8 types have an infinity beyond their numbers.
function operands.beside(value, dtype)
  if not is_number(value) then return tensor.float(value) end
  if dtype == "e4m3" or dtype == "e5m2" then
    local rounded = tensor.cast(value, dtype, false)
    return rounded ~= rounded and value == value and (value > 0 and math.huge or -math.huge) or rounded
  end
  return is_integer(dtype) and f32(value) or reference.round[dtype](value)
end

--- The operands' elements as the arithmetic for a result of this dtype has them: int64_t, or float32 values.
function operands.lists(a, b, shape, dtype)
  local function list(operand)
    if is_integer(dtype) then
      return map(function(value) return is_number(value) and integers.from_number(value, "i64") or value end,
        operands.expanded(operand, shape))
    end
    return map(is_number(operand) and function(value) return operands.beside(value, dtype) end or tensor.float,
      operands.expanded(operand, shape))
  end
  return list(a), list(b)
end

--- A second operand for x: another variable that broadcasts with it (to it, in place), a number, or a new tensor.
function operands.partner(g, x, in_place)
  local own = g.tensor(x)
  local way = g.random(in_place and 8 or 6)
  if way == 1 then return g.number() end
  if way == 2 and is_integer(own.dtype) then return g.random(9) - 5 end
  local function suits(y)
    if in_place then return operation.broadcasts_to(y.shape, own.shape) end
    return operation.broadcast(own.shape, y.shape) ~= nil
  end
  local other = in_place and g.any_source(x, suits) or g.any(suits)
  if other and way > 2 then return var(other) end
  local shape = {}
  for d = g.random(#own.shape + 1), #own.shape do table.insert(shape, g.random(3) == 1 and 1 or own.shape[d]) end
  return var(g.leaf(g.random(2) == 1 and own.dtype or g.pick(operation.dtypes), shape))
end

local function fits(g, a, b)
  local function count(operand) return is_number(operand) and {} or g.tensor(operand.variable).shape end
  return tensor.count(operation.broadcast(count(a), count(b))) <= 300
end

function operands.pair(g, x)
  local a, b = var(x), operands.partner(g, x)
  if g.random(4) == 1 then a, b = b, a end
  return fits(g, a, b) and {a, b} or nil
end

return operands

--- Elementwise choices.
local bound = require "spec.support.reference.bound"
local integers = require "spec.support.integers"
local operands = require "spec.support.programs.operands"
local operation = require "spec.support.programs.operation"
local tensor = require "spec.support.reference.tensor"

local new, map, var, is_float = operation.new, operation.map, operation.var, operation.is_float
local beside, expanded, is_number, meeting, pair, shape_of =
  operands.beside, operands.expanded, operands.is_number, operands.meeting, operands.pair, operands.shape_of
local exact, is_integer = bound.exact, tensor.is_integer

local operations = {}

local function choice(condition, a, b)
  local dtype = meeting(a, b)
  local shape = operation.broadcast(condition.shape, shape_of(a, b))
  local function list(operand)
    return map(function(value)
      if is_number(operand) and not is_integer(dtype) then value = beside(value, dtype) end
      return tensor.cast(value, dtype)
    end, expanded(operand, shape))
  end
  return new(dtype, shape, map(function(chosen, first, second)
    if chosen ~= 0 then return first end
    return second
  end, expanded(condition, shape), list(a), list(b)))
end

local function masked(chosen, g, if_chosen)
  if (chosen ~= 0) == if_chosen then return g end
  return exact(0)
end

local function split(condition, dy, shape)
  local list = expanded(condition, shape)
  return map(function(chosen, g) return masked(chosen, g, true) end, list, dy),
    map(function(chosen, g) return masked(chosen, g, false) end, list, dy)
end

operations.where = {
  first_input = 2, text = "function",
  make = function(g, x)
    local shape = {}
    for d = g.random(#g.tensor(x).shape + 1), #g.tensor(x).shape do table.insert(shape, g.tensor(x).shape[d]) end
    local condition = g.leaf(g.pick {"u8", "u8", "f32", "e4m3", "i64"}, shape, {simple = true})
    local arguments = pair(g, x)
    if arguments then table.insert(arguments, 1, var(condition)) end
    return arguments
  end,
  compute = choice,
  gradient = function(node, dy)
    local first, second = split(node.arguments[1], dy, node.result.shape)
    return {nil, first, second}
  end,
}

operations.masked_fill = {
  make = function(g, x) return {var(x), var(g.leaf("u8", g.tensor(x).shape, {simple = true})), g.number()} end,
  compute = function(x, mask, value) return choice(mask, value, x) end,
  gradient = function(node, dy)
    local _, second = split(node.arguments[2], dy, node.result.shape)
    return {second}
  end,
}

operations.clamp = {
  make = function(g, x)
    local low, high = g.number(), g.number()
    if low ~= low or high ~= high then return nil end
    if low > high then low, high = high, low end
    return {var(x), g.random(3) > 1 and low or nil, g.random(3) > 1 and high or nil, count = 3}
  end,
  compute = function(x, low, high)
    low, high = low or -math.huge, high or math.huge
    local fraction = low ~= math.floor(low) or high ~= math.floor(high)
    local dtype = not is_float(x) and fraction and "f32" or x.dtype
    if is_integer(dtype) then
      local first, last = integers.from_number(low, dtype), integers.from_number(high, dtype)
      return new(dtype, x.shape, map(function(value)
        value = value < first and first or value
        return value > last and last or value
      end, tensor.list(x)))
    end
    low, high = beside(low, dtype), beside(high, dtype)
    return new(dtype, x.shape, map(function(value)
      if value < low then value = low end
      return tensor.cast(value > high and high or value, dtype)
    end, operation.float_list(x)), true)
  end,
  gradient = function(node, dy)
    local x, low, high = unpack(node.arguments, 1, 3)
    low, high = beside(low or -math.huge, x.dtype), beside(high or math.huge, x.dtype)
    return {map(function(g, value)
      return (value < low or value > high) and exact(0) or g
    end, dy, tensor.list(x))}
  end,
}

return operations

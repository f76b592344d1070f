--- What changes its first operand: NAME_ by the rules of NAME.
local bound = require "spec.support.reference.bound"
local operation = require "spec.support.programs.operation"
local tensor = require "spec.support.reference.tensor"

local function resolved(g, arguments)
  local list = {}
  for i = 1, arguments.count or #arguments do
    local argument = arguments[i]
    list[i] = type(argument) == "table" and argument.variable and g.tensor(argument.variable) or argument
  end
  return unpack(list, 1, arguments.count or #arguments)
end

-- Whether `result` can be written to x: the shape is kept, and an integer tensor takes no fractions.
local function fits(x, result)
  return table.concat(result.shape, ",") == table.concat(x.shape, ",") and
    (operation.is_float(x) or not operation.is_float(result))
end

--- The operation NAME_, of NAME: its elements are rounded to x's dtype.
return function(base)
  return {
    in_place = true, takes = base.takes,
    make = function(g, x)
      local arguments = base.make(g, x)
      local first = arguments and arguments[1]
      if type(first) ~= "table" or first.variable ~= x then return nil end
      return fits(g.tensor(x), base.compute(resolved(g, arguments))) and arguments or nil
    end,
    compute = function(x, ...)
      local result = base.compute(x, ...)
      local list = operation.map(function(value)
        if type(value) == "table" then return result.dtype == x.dtype and value or bound.to(result.dtype, value) end
        return value ~= false and tensor.cast(value, x.dtype)
      end, tensor.list(result))
      return operation.new(x.dtype, x.shape, list, result.any_zero)
    end,
  }
end

--- Checks of what modules are made with.
local core = require "fp8.core"
local is_whole = require "fp8.is_whole"

local raise = core.raise

local arguments = {}

--- Raises an error unless `value` is a whole number of at least 1 that a size can be.
function arguments.check_size(class_name, name, value)
  if not is_whole(value, 1) then
    raise(("%s: %s must be a whole number of at least 1, got %s"):format(class_name, name, tostring(value)))
  end
end

local function check_nothing(module, input, ...)
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    if value ~= nil then
      raise(("%s: it takes %s and nothing else, got a %s as argument %d"):format(module.class_name, input,
        core.is_tensor(value) and "tensor" or type(value), i + 1))
    end
  end
end

--- Raises an error if a module that takes one input got more arguments than that, which are the `...`.
-- @param input what it takes, for the error
function arguments.check_one(module, input, ...)
  if select("#", ...) > 0 then check_nothing(module, input, ...) end
end

--- A probability in [0, 1), or an error.
function arguments.check_probability(class_name, name, value)
  if type(value) ~= "number" or not (value >= 0 and value < 1) then
    raise(("%s: %s must be a number of at least 0 and below 1, got %s"):format(class_name, name, tostring(value)))
  end
end

--- A parameter of these sizes, every element of it `value`.
function arguments.constant(sizes, value, options)
  return core.full(sizes, value, {dtype = options.dtype, device = options.device, requires_grad = true})
end

return arguments

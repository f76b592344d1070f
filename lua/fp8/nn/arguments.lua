--- Checks of what modules are made with.
local computable = require "fp8.computable"
local core = require "fp8.core"

local raise = core.raise

local arguments = {}

--- Raises an error unless `value` is a whole number of at least 1 that a size can be.
function arguments.check_size(class_name, name, value)
  local valid = type(value) == "number" and value >= 1 and value == math.floor(value) and value < 2^53
  if not valid then
    raise(("%s: %s must be a whole number of at least 1, got %s"):format(class_name, name, tostring(value)))
  end
end

--- A probability in [0, 1), or an error.
function arguments.check_probability(class_name, name, value)
  if type(value) ~= "number" or not (value >= 0 and value < 1) then
    raise(("%s: %s must be a number of at least 0 and below 1, got %s"):format(class_name, name, tostring(value)))
  end
end

--- Raises an error unless `dtype` is one that parameters can have, or nil.
function arguments.check_dtype(class_name, dtype)
  if dtype ~= nil and not computable[dtype] then
    raise(("%s: option dtype must be f32, f16 or bf16, got %s"):format(class_name, tostring(dtype)))
  end
end

--- The options, or an empty table, after checking names and types.
-- @param kinds the type of each option that there is besides dtype and device: "boolean", "number" or "string"
function arguments.read_options(class_name, options, kinds)
  if options == nil then return {} end
  if type(options) ~= "table" then
    raise(("%s: the options must be a table, got %s"):format(class_name, type(options)))
  end
  for option, value in pairs(options) do
    if option == "dtype" then
      arguments.check_dtype(class_name, value)
    elseif option ~= "device" then
      local kind = kinds and kinds[option]
      if not kind then raise(("%s: unknown option %s"):format(class_name, tostring(option))) end
      if type(value) ~= kind then
        raise(("%s: option %s must be a %s, got %s"):format(class_name, option, kind, type(value)))
      end
    end
  end
  return options
end

--- A parameter of these sizes, every element of it `value`.
function arguments.constant(sizes, value, options)
  return core.full(sizes, value, {dtype = options.dtype, device = options.device, requires_grad = true})
end

return arguments

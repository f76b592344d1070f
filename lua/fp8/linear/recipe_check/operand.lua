--- What an operand of a recipe has to be.
local core = require "fp8.core"
local formats = require "fp8.linear.formats"
local later = require "fp8.later"
local scale_check = require "fp8.linear.recipe_check.scale"
local shown = require "fp8.linear.recipe_check.shown"
local transform_check = require "fp8.linear.recipe_check.transform"

local raise = core.raise

local operand_check = {}

local operand_fields = {
  format = true, scale = true, scale_rounding = true, second_scale = true, headroom = true, constant_scale = true,
  hadamard = true, signs = true, history = true, rounding = true, range = true, candidates = true,
  largest_scale = true, smooth = true, across = true, from = true, mask = true,
}
local roundings = {nearest = true, stochastic = true}

--- The fields of an operand: a set.
operand_check.fields = operand_fields

-- Maps that have passed check_map, and the version of their contents then.
local checked_maps = setmetatable({}, {__mode = "k"})

local function check_map(map)
  local version = core.version(map)
  if checked_maps[map] == version then return end
  core.quantize(core.zeros({1}, {dtype = "f32", device = "cpu"}), core.quantizer {format = map}, "codes")
  checked_maps[map] = version
end

local function check_format(where, format)
  if formats.is_hardware(format) ~= nil then return end
  if not core.is_tensor(format) then
    local called = core.dtype_called(format)
    raise(("%s.format must be a map (a tensor of 256 values) or one of %s, got %s%s"):format(where,
      table.concat(formats.names(), ", "), shown(format),
      formats.is_hardware(called) and (", which is called %s here"):format(called) or ""))
  end
  local ok, message = pcall(check_map, format)
  if ok then return end
  raise(("%s.format: %s"):format(where, message:gsub("^.-quantize: ", ""):gsub("^.-version: argument 1: ", "")))
end

-- What only operands of some products may have: recipe_check says which.
local function check_of_products(where, operand)
  if operand.from ~= nil and operand.from ~= "forward" then
    raise(('%s.from must be "forward", got %s'):format(where, shown(operand.from)))
  end
  if operand.mask ~= nil and type(operand.mask) ~= "boolean" then
    raise(("%s.mask must be a boolean, got %s"):format(where, shown(operand.mask)))
  end
end

--- Raises an error unless `value` is a table that has `fields` alone.
-- @param form what it should be like, for people
function operand_check.only_fields(where, value, fields, form)
  if type(value) ~= "table" then raise(("%s must be a table %s, got %s"):format(where, form, shown(value))) end
  for field in pairs(value) do
    if not fields[field] then
      raise(("%s: unknown field %s%s"):format(where, tostring(field), later("fp8.nearest").hint(field, fields)))
    end
  end
end

--- Raises an error unless a rounding is one, or nil.
-- @param where what stands before the field's name
function operand_check.rounding(where, rounding)
  if rounding == nil or roundings[rounding] then return end
  raise(('%srounding must be "nearest" or "stochastic", got %s'):format(where, shown(rounding)))
end

-- An operand that a function of the script quantizes.
local function check_function(where, operand)
  for field in pairs(operand) do
    if field ~= "quantize" then
      raise(("%s.%s has no meaning beside quantize = a function, which sees to everything"):format(where,
        tostring(field)))
    end
  end
  if type(operand.quantize) ~= "function" then
    raise(("%s.quantize must be a function, got %s"):format(where, shown(operand.quantize)))
  end
end

--- Raises an error that names the first wrong field of an operand, which errors call `where`.
function operand_check.check(where, operand)
  if operand == "full" then return end
  if type(operand) == "table" and operand.quantize ~= nil then return check_function(where, operand) end
  operand_check.only_fields(where, operand, operand_fields, '{format =, scale =} or "full"')
  check_format(where, operand.format)
  scale_check.check(where, operand)
  transform_check.check(where, operand)
  check_of_products(where, operand)
  operand_check.rounding(where .. ".", operand.rounding)
end

return operand_check

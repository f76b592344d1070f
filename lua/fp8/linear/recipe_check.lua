--- What a recipe has to be like (recipes.lua), and what is wrong with one that isn't, by the name of the field.
local core = require "fp8.core"
local dtypes = require("fp8.core").dtypes
local is_whole = require "fp8.is_whole"
local later = require "fp8.later"

local raise = core.raise

local recipe_check = {}

local operands = {"input", "weight", "grad_output"}
-- The operands that a product may have of its own: y has those of the recipe.
local products = {forward = {}, input_grad = {"grad_output", "weight"}, weight_grad = {"grad_output", "input"}}
local operand_fields = {format = true, scale = true, scale_rounding = true, history = true, rounding = true}
local recipe_fields = {
  input = true, weight = true, grad_output = true, forward = true, input_grad = true, weight_grad = true,
  rounding = true,
}
local roundings = {nearest = true, stochastic = true}
local accumulations = {fast = true, accurate = true}
local scale_names = {tensor = true, row = true, column = true, block = true}
local scale_roundings = {none = true, power_of_two = true, mx = true}
local hardware = {}
for name, dtype in pairs(dtypes) do hardware[name] = dtype.kind == "float8" or nil end
local longest_history = 2^20
local accepted_scales = '"tensor", "row", "column", "block", a block length (a whole number of at least 1) or ' ..
  "{rows, columns}"

--- The fields of a recipe, and the formats that are hardware types: sets.
recipe_check.fields, recipe_check.is_hardware = recipe_fields, hardware

local function shown(value)
  return type(value) == "string" and ('"%s"'):format(value) or
    type(value) == "number" and tostring(value) or type(value)
end

-- Maps that have passed check_map, and the version of their contents then.
local checked_maps = setmetatable({}, {__mode = "k"})

local function check_map(map)
  local version = core.version(map)
  if checked_maps[map] == version then return end
  core.quantize(core.zeros({1}, {dtype = "f32", device = "cpu"}), core.quantizer {format = map}, "codes")
  checked_maps[map] = version
end

local function check_format(where, format)
  if hardware[format] then return end
  if not core.is_tensor(format) then
    local called = core.dtype_called(format)
    raise(('%s.format must be a map (a tensor of 256 values), "e4m3" or "e5m2", got %s%s'):format(where, shown(format),
      hardware[called] and (", which is called %s here"):format(called) or ""))
  end
  local ok, message = pcall(check_map, format)
  if ok then return end
  raise(("%s.format: %s"):format(where, message:gsub("^.-quantize: ", ""):gsub("^.-version: argument 1: ", "")))
end

local function check_scale(where, scale)
  if scale_names[scale] or is_whole(scale, 1) then return end
  if type(scale) == "table" then
    local count = 0
    for _ in next, scale do count = count + 1 end
    local rows, columns = rawget(scale, 1), rawget(scale, 2)
    if count == 2 and is_whole(rows, 1) and is_whole(columns, 1) then return end
    raise(("%s.scale must be %s, got a table of %d that is not two whole numbers of at least 1"):format(where,
      accepted_scales, count))
  end
  raise(("%s.scale must be %s, got %s"):format(where, accepted_scales, shown(scale)))
end

local function check_scale_rounding(where, operand)
  local rounding = operand.scale_rounding
  if rounding == nil then return end
  if not scale_roundings[rounding] then
    raise(('%s.scale_rounding must be "none", "power_of_two" or "mx", got %s'):format(where, shown(rounding)))
  end
  if rounding == "mx" and not hardware[operand.format] then
    raise(('%s.scale_rounding: "mx" is for the formats "e4m3" and "e5m2", not for maps'):format(where))
  end
end

local function check_history(where, operand)
  local history = operand.history
  if history == nil then return end
  if not is_whole(history, 1) or history > longest_history then
    raise(("%s.history must be a whole number from 1 to %d, got %s"):format(where, longest_history, shown(history)))
  end
  if operand.scale ~= "tensor" then
    raise(('%s.history is for scale = "tensor", got %s'):format(where, shown(operand.scale)))
  end
end

local function check_fields(where, value, fields, form)
  if type(value) ~= "table" then raise(("%s must be a table %s, got %s"):format(where, form, shown(value))) end
  for field in pairs(value) do
    if not fields[field] then
      raise(("%s: unknown field %s%s"):format(where, tostring(field), later("fp8.nearest").hint(field, fields)))
    end
  end
end

local function check_rounding(where, rounding)
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
function recipe_check.check_operand(where, operand)
  if operand == "full" then return end
  if type(operand) == "table" and operand.quantize ~= nil then return check_function(where, operand) end
  check_fields(where, operand, operand_fields, '{format =, scale =} or "full"')
  check_format(where, operand.format)
  check_scale(where, operand.scale)
  check_scale_rounding(where, operand)
  check_history(where, operand)
  check_rounding(where .. ".", operand.rounding)
end

-- A product: "full", nil, or its own operands and how it is accumulated.
local function check_product(where, name, product)
  if product == nil or product == "full" or name == "weight_grad" and product == "quantized" then return end
  local fields, forms = {accumulate = true}, {}
  for i, operand in ipairs(products[name]) do fields[operand], forms[i] = true, operand .. " =" end
  forms[#forms + 1] = "accumulate ="
  check_fields(where, product, fields, ('{%s} or "full"%s'):format(table.concat(forms, ", "),
    name == "weight_grad" and ' or "quantized"' or ""))
  for _, operand in ipairs(products[name]) do
    if product[operand] ~= nil then recipe_check.check_operand(where .. "." .. operand, product[operand]) end
  end
  local accumulate = product.accumulate
  if accumulate ~= nil and not accumulations[accumulate] then
    raise(('%s.accumulate must be "fast" or "accurate", got %s'):format(where, shown(accumulate)))
  end
end

--- Raises an error unless a recipe has such a field.
function recipe_check.check_field(where, field)
  if recipe_fields[field] then return end
  raise(("%s: unknown field %s%s"):format(where, tostring(field), later("fp8.nearest").hint(field, recipe_fields)))
end

--- Raises an error that names the first wrong field of a recipe.
-- @param name of the function to name in errors
function recipe_check.check(name, recipe)
  if type(recipe) ~= "table" then raise(("%s: recipe must be a table, got %s"):format(name, shown(recipe))) end
  for field in pairs(recipe) do recipe_check.check_field(name .. ": recipe", field) end
  local prefix = name .. ": recipe."
  for _, operand in ipairs(operands) do recipe_check.check_operand(prefix .. operand, recipe[operand]) end
  for _, product in ipairs {"forward", "input_grad", "weight_grad"} do
    check_product(prefix .. product, product, recipe[product])
  end
  check_rounding(prefix, recipe.rounding)
end

-- A copy of a table of fields with those of `changes`; those of both, operands, one by one if `depth` is more than 1.
local function merged(old, changes, depth)
  local result = {}
  for field, value in pairs(type(old) == "table" and old or {}) do result[field] = value end
  for field, value in pairs(changes) do
    local is_operand = depth > 1 and type(value) == "table" and value.quantize == nil
    result[field] = is_operand and merged(result[field], value, depth - 1) or value
  end
  return result
end

--- A copy of a recipe with tables of its own; the maps are the same.
function recipe_check.copied(value)
  if type(value) ~= "table" then return value end
  local copy = {}
  for key, part in pairs(value) do copy[key] = recipe_check.copied(part) end
  return copy
end

--- A copy of a recipe with the fields that `changes` has of one; those of an operand one by one.
function recipe_check.override(recipe, changes)
  local changed = merged(recipe, {}, 1)
  for field, value in pairs(changes) do
    if recipe_fields[field] then
      local is_product = products[field] ~= nil
      if type(value) == "table" and field ~= "rounding" then
        changed[field] = value.quantize ~= nil and value or merged(recipe[field], value, is_product and 2 or 1)
      else
        changed[field] = value
      end
    end
  end
  return changed
end

return recipe_check

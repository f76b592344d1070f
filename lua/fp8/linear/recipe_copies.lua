--- Copies of recipes, with or without changes. The maps are the same.
local recipe_check = require "fp8.linear.recipe_check"

local recipe_copies = {}

-- @param around the tables that the value is in: one that is in itself, which is no recipe, is not copied there
local function copied(value, around)
  if type(value) ~= "table" or around[value] then return value end
  local copy = {}
  around[value] = true
  for key, part in pairs(value) do copy[key] = copied(part, around) end
  around[value] = nil
  return copy
end

--- A copy of a recipe with tables of its own.
function recipe_copies.copied(value) return copied(value, {}) end

--- A copy of a recipe whose operands of x are smoothed by columns, where that goes.
function recipe_copies.smoothed(recipe)
  local function smoothed(operand)
    if type(operand) ~= "table" or operand.format == nil then return operand end
    if operand.hadamard or operand.across or operand.history or operand.smooth then return operand end
    local copy = recipe_copies.copied(operand)
    copy.smooth = "column"
    return copy
  end
  local copy = recipe_copies.copied(recipe)
  copy.input = smoothed(copy.input)
  if type(copy.weight_grad) == "table" then copy.weight_grad.input = smoothed(copy.weight_grad.input) end
  return copy
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

--- A copy of a recipe with the fields that `changes` has of one; those of an operand one by one.
function recipe_copies.override(recipe, changes)
  local changed = recipe_copies.copied(recipe)
  for field, value in pairs(changes) do
    if recipe_check.fields[field] then
      local is_product = recipe_check.products[field] ~= nil
      value = recipe_copies.copied(value)
      if type(value) == "table" and value.quantize == nil then
        value = merged(changed[field], value, is_product and 2 or 1)
      end
      changed[field] = value
    end
  end
  return changed
end

return recipe_copies

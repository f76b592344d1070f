--- Recipes as plain values, for the metadata of files, and back: maps become {["256 values"] = …}.
local core = require "fp8.core"

local plain_recipes = {}

local of_map = "256 values" -- the one field of a map
local map_size = 256
local largest = 2 ^ 128 - 2 ^ 104 -- of a float32

-- A table with `convert` of each part; nil where that is nil.
local function each(value, convert)
  local copy = {}
  for key, part in pairs(value) do
    copy[key] = convert(part)
    if copy[key] == nil then return nil end
  end
  return copy
end

--- The plain form of a recipe, or of recipes by name; nil for one with a function in it.
function plain_recipes.plain(value)
  if core.is_tensor(value) then
    return {[of_map] = core.totable(core.to(value, {dtype = "f32", device = "cpu"}))}
  elseif type(value) == "function" then
    return nil
  elseif type(value) ~= "table" then
    return value
  end
  return each(value, plain_recipes.plain)
end

-- The map in a plain form, which came out of a file; nil where it is none.
local function map_of(values)
  if type(values) ~= "table" or #values ~= map_size then return nil end
  for i = 1, map_size do
    if type(values[i]) ~= "number" or math.abs(values[i]) > largest then return nil end
  end
  return core.tensor(values, {dtype = "f32", device = "cpu"})
end

--- The recipe again; nil where the plain form is of none.
function plain_recipes.recipes(value)
  if type(value) ~= "table" then return value end
  if value[of_map] ~= nil then return map_of(value[of_map]) end
  return each(value, plain_recipes.recipes)
end

return plain_recipes

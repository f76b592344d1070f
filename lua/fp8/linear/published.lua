--- The recipes of fp8.recipes when a layer, a product or a watcher takes one: as they were published, or not at all.
-- They are plain tables, so that scripts can copy them; a change in place would be one for every layer to come, so it
-- is undone with an error where such a recipe is taken next.
local core = require "fp8.core"
local later = require "fp8.later"
local recipe_copies = require "fp8.linear.recipe_copies"
local recipes = require "fp8.linear.recipes"

local raise = core.raise

local published = {}

--- Whether two recipes, or parts of them, say the same.
function published.same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  for key, value in pairs(a) do
    if not published.same(value, b[key]) then return false end
  end
  for key in pairs(b) do
    if a[key] == nil then return false end
  end
  return true
end

jit.off(published.same) -- nn/module.lua says why

-- By name: the table that is published, and what it says; and the names of the tables.
local originals, contents, names = {}, {}, {}
for name, recipe in pairs(recipes) do
  originals[name], contents[name], names[recipe] = recipe, recipe_copies.copied(recipe), name
end

-- The maps of their formats, which have values of their own to change.
local maps = {recipes.mixed.input.format, recipes.mixed.grad_output.format, recipes.luq.grad_output.format}
local values, versions = {}, {}
for i, map in ipairs(maps) do values[i], versions[i] = core.clone(map), core.version(map) end

local function put_back(name)
  local recipe = originals[name]
  rawset(recipes, name, recipe)
  for key in pairs(recipe) do recipe[key] = nil end
  for key, value in pairs(recipe_copies.copied(contents[name])) do recipe[key] = value end
  for i, map in ipairs(maps) do
    if core.version(map) ~= versions[i] then versions[i] = core.version(core.copy_(map, values[i])) end
  end
end

--- The recipe itself; an error if it is one of fp8.recipes and has been changed, which is undone.
-- @param where names the caller in errors
function published.check(where, recipe)
  local name = names[recipe]
  if not name then return recipe end
  local intact = published.same(recipe, contents[name])
  for i, map in ipairs(maps) do intact = intact and core.version(map) == versions[i] end
  if intact then return recipe end
  put_back(name)
  raise(("%s: fp8.recipes.%s has been changed: recipes there are read-only, so change a copy, fp8.recipe(\"%s\", {…})")
    :format(where, name, name))
end

--- The recipe called `name`, which may be one that a script has added; an error if there is none.
function published.find(where, name)
  local recipe = rawget(recipes, name)
  if recipe == nil then
    raise(("%s: there is no recipe '%s' in fp8.recipes%s"):format(where, name,
      later("fp8.nearest").hint(name, recipes)))
  end
  if originals[name] and recipe ~= originals[name] then
    put_back(name)
    raise(("%s: fp8.recipes.%s has been replaced: give a recipe of your own another name"):format(where, name))
  end
  return published.check(where, recipe)
end

--- What a recipe's name stands for, or the recipe itself; an error if it is neither.
function published.resolve(where, recipe)
  if type(recipe) == "string" then return published.find(where, recipe) end
  if type(recipe) ~= "table" then
    raise(("%s: recipe must be a table or the name of one, got %s"):format(where, type(recipe)))
  end
  return published.check(where, recipe)
end

return published

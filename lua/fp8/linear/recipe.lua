--- fp8.recipe(base, changes): a recipe of one's own, as an altered copy of another one.
local core = require "fp8.core"
local published = require "fp8.linear.published"
local recipe_check = require "fp8.linear.recipe_check"
local recipe_copies = require "fp8.linear.recipe_copies"

--- A copy of a recipe with other values in some fields; those of an operand one by one. The base stays as it is. See
-- fp8.recipes for what the fields mean.
--
--   local recipe = fp8.recipe("mixed", {grad_output = {scale = "row", rounding = "stochastic"}})
--   local layer = fp8.Linear(64, 32, {recipe = recipe})
--   layer(fp8.randn(8, 64)):size(2) --> 32
--
-- @param base    a recipe, or the name of one in fp8.recipes
-- @param changes a table of fields of a recipe, or nil for a plain copy
-- @return a table, which is checked
return function(base, changes)
  local recipe = published.resolve("recipe", base)
  if changes ~= nil and type(changes) ~= "table" then
    core.raise("recipe: changes must be a table, got " .. type(changes))
  end
  for field in pairs(changes or {}) do recipe_check.check_field("recipe", field) end
  local altered = recipe_copies.override(recipe, changes or {})
  recipe_check.check("recipe", altered)
  return altered
end

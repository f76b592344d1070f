--- fp8.convert: other recipes for the linear layers and convolutions of a model.
local by_name = require "fp8.nn.convert.by_name"
local changes = require "fp8.changes"
local core = require "fp8.core"
local is_whole = require "fp8.is_whole"
local layers = require "fp8.nn.convert.layers"
local moments = require "fp8.optim.moments"
local published = require "fp8.linear.published"
local recipe_check = require "fp8.linear.recipe_check"
local recipe_copies = require "fp8.linear.recipe_copies"

local raise = core.raise

-- The field in which a model remembers the recipes by name that it has: {recipes =, phase =}.
local field = "given_recipes"

local function adopt_all(model, found, given)
  for _, change in ipairs(found) do change.layer:adopt(change.plan, change.recipe) end
  changes.set(model, field, given)
end

-- A table of recipes by name that lacks the default is no recipe either: says what is missing.
local function check_default(recipe)
  if type(recipe) ~= "table" or next(recipe) == nil then return end
  for name in pairs(recipe) do
    if recipe_check.fields[name] then return end
  end
  raise("convert: recipes by name need a default: a recipe, or false for plain products" .. by_name.hint(recipe))
end

-- By one recipe, or a function for one, for all layers that the filter lets through.
local function convert_alike(model, recipe, filter)
  check_default(recipe)
  local found = layers.planned("convert", model, recipe, filter)
  local whole = not filter and type(recipe) ~= "function"
  local given = whole and {recipes = {default = recipe_copies.copied(recipe)}, phase = 1} or nil
  changes.together(adopt_all, model, found, given)
  return model, #found
end

-- By recipes by name, as they are at a step; where one is given, only layers that have another recipe so far, as always
-- of attention and embeddings.
local function convert_by_name(model, recipes, step)
  moments.read("convert: optimizer_state", recipes.optimizer_state, {"first_moment", "second_moment"})
  local phases, before = by_name.phases("convert", recipes), rawget(model, field)
  local phase = by_name.phase_at(phases, step or 1)
  if step and before and before.phase == phase and published.same(before.recipes, recipes) then return model, 0 end
  local found = {}
  for _, change in ipairs(layers.planned_by_phase("convert", model, phases)[phase]) do
    local same = published.same(change.layer.recipe, change.recipe)
    if not (same and (step or change.kind ~= "layer")) then found[#found + 1] = change end
  end
  changes.together(adopt_all, model, found, {recipes = recipe_copies.copied(recipes), phase = phase})
  return model, #found
end

--- Has the linear layers and convolutions (of one group) of a model compute by a recipe from now on. The layers stay
-- the objects that they are, with their weights and biases, so that an optimizer made before still fits; histories of
-- delayed scaling begin anew. Nothing is changed if anything is wrong.
--
--   fp8.convert(model, "mixed", function(name) return name ~= "head" end)
--   fp8.convert(model, {default = "mx", ["blocks.1.*"] = false, head = "rowwise"})
--
-- Recipes by name are for a whole network: they may name attention and embeddings, too, and what optimizers keep.
--
--   local rows = {format = "e4m3", scale = "row"}
--   fp8.convert(model, {
--     default = "mxfp8", head = "rowwise", tokens = {rows = rows}, ["*.attention"] = {q = rows, k = rows, v = rows},
--     optimizer_state = {format = "e4m3"},
--   })
--   local optimizer = fp8.optim.AdamW(model) -- whose moments are kept in e4m3
--
-- In names * stands for any characters and ? for one; where several fit a layer, the most exact counts, and one that
-- fits no layer is an error. Recipes by name may change at a step, and fp8.checkpoint remembers them:
--
--   local recipes = {default = "mx", ["blocks.1.*"] = false, until_step = 540, after = false}
--   for step = 1, 600 do
--     fp8.convert(model, recipes, step)
--     … forward, backward, optimizer:step() …
--   end
--
-- With a step, layers that compute by their recipe already are left alone, histories included: most calls change
-- nothing. Where the number of converted layers is not 0, a graph of the training step has to be captured again.
-- @param model  a module: such a layer, or one with such layers in it, quantized ones included
-- @param recipe a table as in fp8.recipes, a name there, or false for plain products (not nil, which a misspelt
--   variable is); a function(name, layer) that returns one of these, or nothing for plain products; or a table of
--   recipes by name, {default =, …}: convert/by_name.lua says what is in it. The name of a layer is that of its weight
--   in model:named_parameters() without ".weight", and "" for the model itself
-- @param filter nil; or a function(name, layer) that says whether to convert a layer; or, with recipes by name, the
--   number of the training step that comes next, 1 if left out
-- @return the model, and the number of layers converted, attention and embeddings among them where they change
--   local model = fp8.nn.Sequential(fp8.Linear(4, 4), fp8.nn.ReLU(), fp8.Linear(4, 2))
--   select(2, fp8.convert(model, "mixed", function(name) return name ~= "3" end)) --> 1
--   fp8.convert(model, {default = "mx", ["3"] = false, until_step = 9}, 10)[1].recipe --> nil
return function(model, recipe, filter)
  if not by_name.is(recipe) then
    layers.check("convert", model, filter)
    return convert_alike(model, recipe, filter)
  end
  layers.check("convert", model)
  if filter ~= nil and not is_whole(filter, 0) then
    raise("convert: with recipes by name, the third argument must be the number of a step, got " ..
      (type(filter) == "number" and tostring(filter) or type(filter)))
  end
  return convert_by_name(model, recipe, filter)
end

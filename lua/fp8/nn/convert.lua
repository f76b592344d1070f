--- fp8.convert: other recipes for the linear layers and convolutions of a model.
local changes = require "fp8.changes"
local core = require "fp8.core"
local Module = require "fp8.nn.module"
local takes_recipes = require("fp8.nn.product_layer").takes_recipes

local raise = core.raise

-- Every layer of a module tree that recipes are for once: a list of {name =, layer =}.
local function add_layers(list, module, name, seen)
  if seen[module] then return list end
  seen[module] = true
  if takes_recipes(module) then list[#list + 1] = {name = name, layer = module} end
  for field, part in module:children() do
    add_layers(list, part, name == "" and tostring(field) or name .. "." .. tostring(field), seen)
  end
  return list
end

local function adopt_all(found)
  for _, change in ipairs(found) do change.layer:adopt(change.plan, change.recipe) end
end

--- Has the linear layers and convolutions (of one group) of a model compute by a recipe from now on. The layers stay
-- the objects that they are, with their weights and biases, so that an optimizer made before still fits; histories of
-- delayed scaling begin anew. Nothing is changed if anything is wrong.
--
--   fp8.convert(model, "mixed", function(name) return name ~= "head" end)
--
-- @param model  a module: such a layer, or one with such layers in it, quantized ones included
-- @param recipe a table as in fp8.recipes, a name there, or false for plain products (not nil, which a misspelt
--   variable is); or a function(name, layer) that returns one of these, or nothing for plain products
-- @param filter nil, or a function(name, layer) that says whether to convert a layer; its name is that of its weight in
--   model:named_parameters() without ".weight", and "" for the model itself
-- @return the model, and the number of layers converted
--   local model = fp8.nn.Sequential(fp8.Linear(4, 4), fp8.nn.ReLU(), fp8.Linear(4, 2))
--   select(2, fp8.convert(model, "mixed", function(name) return name ~= "3" end)) --> 1
return function(model, recipe, filter)
  if not Module.is_module(model) then raise("convert: model must be a module, got " .. type(model)) end
  if filter ~= nil and type(filter) ~= "function" then
    raise("convert: filter must be a function, got " .. type(filter))
  end
  local found = {}
  for _, entry in ipairs(add_layers({}, model, "", {})) do
    local name, layer = entry.name, entry.layer
    if not filter or filter(name, layer) then
      local own = recipe
      if type(recipe) == "function" then own = recipe(name, layer) or false end
      local plan, planned = layer:plan_for("convert", own)
      found[#found + 1] = {layer = layer, plan = plan, recipe = planned}
    end
  end
  changes.together(adopt_all, found)
  return model, #found
end

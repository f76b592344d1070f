--- The modules of a model that recipes are for, linear layers and convolutions first of all, and the plan that each
-- gets from what fp8.convert takes.
local by_name = require "fp8.nn.convert.by_name"
local core = require "fp8.core"
local Module = require "fp8.nn.module"
local takes_recipes = require("fp8.nn.product_layer").takes_recipes

local raise = core.raise

local layers = {}

local function add(list, module, name, seen)
  if seen[module] then return list end
  seen[module] = true
  local kind = module.recipe_kind
  if kind and (kind ~= "layer" or takes_recipes(module)) then
    list[#list + 1] = {name = name, layer = module, kind = kind}
  end
  for field, part in module:children() do
    add(list, part, name == "" and tostring(field) or name .. "." .. tostring(field), seen)
  end
  return list
end

--- Every module of a tree that recipes are for once: a list of {name =, layer =, kind = "layer", "attention" or
-- "embedding"}.
function layers.all(model) return add({}, model, "", {}) end

--- The linear layers and convolutions among them.
function layers.list(model)
  local list = {}
  for _, entry in ipairs(layers.all(model)) do
    if entry.kind == "layer" then list[#list + 1] = entry end
  end
  return list
end

--- Raises an error unless these are a model and a filter.
function layers.check(where, model, filter)
  if not Module.is_module(model) then raise(("%s: model must be a module, got %s"):format(where, type(model))) end
  if filter ~= nil and type(filter) ~= "function" then
    raise(("%s: filter must be a function, got %s"):format(where, type(filter)))
  end
end

-- What the modules of a list get from one table of recipes by name.
local function planned_by_name(where, recipes, list)
  local chosen, found = by_name.choose(where, recipes, list), {}
  for i, entry in ipairs(list) do
    local plan, recipe = entry.layer:plan_for(where, chosen[i])
    found[i] = {name = entry.name, layer = entry.layer, kind = entry.kind, plan = plan, recipe = recipe}
  end
  return found
end

--- What the layers get from recipes by name, for each of the tables that by_name.phases gives: a list of lists as
-- layers.planned returns them.
function layers.planned_by_phase(where, model, phases)
  local list, found = layers.all(model), {}
  for i, recipes in ipairs(phases) do found[i] = planned_by_name(where, recipes, list) end
  return found
end

--- What each layer gets from a recipe, from a function for one, or from recipes by name, as they are at the first step.
-- @param where  names the caller in errors
-- @param filter nil, or a function(name, layer) that says which layers are asked about
-- @return a list of {name =, layer =, plan =, recipe =}, the last two nil for plain products
function layers.planned(where, model, recipe, filter)
  local found, list, named = {}, {}, by_name.is(recipe)
  for _, entry in ipairs(named and layers.all(model) or layers.list(model)) do
    if not filter or filter(entry.name, entry.layer) then list[#list + 1] = entry end
  end
  if named then return planned_by_name(where, recipe, list) end
  for i, entry in ipairs(list) do
    local own = recipe
    if type(recipe) == "function" then own = recipe(entry.name, entry.layer) or false end
    local plan, planned = entry.layer:plan_for(where, own)
    found[i] = {name = entry.name, layer = entry.layer, plan = plan, recipe = planned}
  end
  return found
end

return layers

--- Recipes for fp8 and, for spec/support/linear_check.lua, in the reference's terms, one from the other.
local fp8 = require "fp8"
local planning = require "fp8.linear.plan"
local reference = require "spec.support.reference"
local support = require "spec.support"

local recipe_rules = {}

local e4m3, e5m2 = reference.map(true, 4, 3), reference.map(true, 5, 2)

--- The maps of fp8.recipes as lists, and the maps for these.
recipe_rules.e4m3, recipe_rules.e5m2 = e4m3, e5m2
local map_of = {[e4m3] = fp8.create_map(true, 4, 3, 8), [e5m2] = fp8.create_map(true, 5, 2, 8)}
recipe_rules.map_of = map_of
local list_of = {
  [fp8.recipes.mixed.input.format] = e4m3, [fp8.recipes.mixed.grad_output.format] = e5m2,
  [fp8.recipes.luq.grad_output.format] = support.flat(fp8.recipes.luq.grad_output.format),
}

--- A recipe for fp8 from one in the reference's terms, where a format is a list or a name, and a function of numbers
-- has one of tensors beside it: {quantize =, of_tensor =}.
function recipe_rules.recipe_of(rules)
  local recipe = {}
  for field, value in support.sorted_pairs(rules) do
    local format, scale, scale_rounding, more = value[1], value[2], value[3], value[4]
    if type(value) == "string" then
      recipe[field] = value
    elseif format then
      recipe[field] = {format = map_of[format] or format, scale = scale, scale_rounding = scale_rounding}
      for name, of_more in pairs(more or {}) do recipe[field][name] = of_more end
    elseif value.quantize then
      recipe[field] = {quantize = value.of_tensor}
    else
      recipe[field] = recipe_rules.recipe_of(value)
    end
  end
  return recipe
end

--- The other way round.
function recipe_rules.rules_of(recipe)
  local rules = {}
  for field, value in support.sorted_pairs(recipe) do
    if type(value) == "string" then
      rules[field] = field ~= "rounding" and value or nil
    elseif value.format then
      local more = {}
      for name, of_operand in pairs(value) do more[name] = of_operand end
      if more.signs == "random" then more.signs = planning.random_signs(more.hadamard) end
      rules[field] = {list_of[value.format] or value.format, value.scale, value.scale_rounding, more}
    else
      rules[field] = recipe_rules.rules_of(value)
    end
  end
  return rules
end

--- A recipe without stochastic rounding and signs that are drawn, whose results follow from its inputs.
function recipe_rules.to_nearest(recipe)
  local copy = {}
  for field, value in pairs(recipe) do
    copy[field] = type(value) == "table" and recipe_rules.to_nearest(value) or value
  end
  if copy.rounding then copy.rounding = "nearest" end
  if copy.signs == "step" then copy.signs = "random" end
  return copy
end

return recipe_rules

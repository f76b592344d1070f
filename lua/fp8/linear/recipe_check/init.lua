--- What a recipe has to be like (recipes.lua), and what is wrong with one that isn't, by the name of the field.
local core = require "fp8.core"
local later = require "fp8.later"
local operand_check = require "fp8.linear.recipe_check.operand"
local scale_check = require "fp8.linear.recipe_check.scale"
local shown = require "fp8.linear.recipe_check.shown"
local transform_check = require "fp8.linear.recipe_check.transform"

local raise = core.raise

local recipe_check = {}

local operands = {"input", "weight", "grad_output"}
-- The operands that a product may have of its own: y has those of the recipe.
local products = {forward = {}, input_grad = {"grad_output", "weight"}, weight_grad = {"grad_output", "input"}}
local recipe_fields = {
  input = true, weight = true, grad_output = true, forward = true, input_grad = true, weight_grad = true,
  keep = true, rounding = true,
}
local accumulations = {fast = true, accurate = true}

--- The fields of a recipe, and those of an operand: sets. The operands that each product may have of its own: lists.
recipe_check.fields, recipe_check.operand_fields, recipe_check.products = recipe_fields, operand_check.fields, products

--- Of one operand, or of a part of it that stands alone: errors as here.
recipe_check.check_operand, recipe_check.check_scale = operand_check.check, scale_check.blocks
recipe_check.check_fit, recipe_check.check_transform = scale_check.fit, transform_check.alone

-- A product: "full", nil, or its own operands and how it is accumulated.
local function check_product(where, name, product)
  if product == nil or product == "full" or name == "weight_grad" and product == "quantized" then return end
  local fields, forms = {accumulate = true}, {}
  for i, operand in ipairs(products[name]) do fields[operand], forms[i] = true, operand .. " =" end
  forms[#forms + 1] = "accumulate ="
  operand_check.only_fields(where, product, fields, ('{%s} or "full"%s'):format(table.concat(forms, ", "),
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

-- Raises an error if an operand has a field that is for others.
local function check_place(where, operand, field, others)
  if type(operand) == "table" and operand[field] then
    raise(("%s.%s is for %s, not for this operand"):format(where, field, others))
  end
end

-- Some fields are for operands of some products alone.
local function check_places(prefix, recipe)
  for _, name in ipairs(operands) do
    check_place(prefix .. name, recipe[name], "from", "input_grad.weight and weight_grad.input")
    check_place(prefix .. name, recipe[name], "across", "operands of input_grad and weight_grad")
  end
  check_place(prefix .. "grad_output", recipe.grad_output, "mask", "input and weight")
  for _, product in ipairs {"input_grad", "weight_grad"} do
    for _, name in ipairs(products[product]) do
      local where = prefix .. product .. "." .. name
      local operand = type(recipe[product]) == "table" and recipe[product][name]
      check_place(where, operand, "mask", "input and weight of the recipe")
      if name == "grad_output" then
        check_place(where, operand, "from", "input_grad.weight and weight_grad.input")
      elseif type(operand) == "table" and operand.from and (recipe.forward == "full" or recipe[name] == "full") then
        raise(("%s.from has no meaning where %s is full in the forward product"):format(where, name))
      end
    end
  end
  for _, name in ipairs {"input", "weight"} do
    if recipe.forward == "full" and type(recipe[name]) == "table" and recipe[name].mask then
      raise(('%s%s.mask has no meaning beside forward = "full"'):format(prefix, name))
    end
  end
end

--- Raises an error that names the first wrong field of an operand that stands alone, without a product.
function recipe_check.check_alone(where, operand)
  recipe_check.check_operand(where, operand)
  for _, field in ipairs {"from", "mask", "across"} do
    check_place(where, operand, field, "operands of a recipe's products")
  end
end

--- Raises an error if an operand that no linear layer multiplies has a field that has a meaning there alone.
-- @param place what it is in
function recipe_check.check_outside(where, operand, place)
  for _, field in ipairs {"hadamard", "history"} do
    if type(operand) == "table" and operand[field] ~= nil then
      raise(("%s.%s has no meaning in %s"):format(where, field, place))
    end
  end
end

-- The format in which x is kept between the passes.
local function check_keep(where, recipe)
  local keep, own = recipe.keep, recipe.weight_grad
  if keep == nil then return end
  if type(keep) ~= "table" or keep.quantize ~= nil then
    raise(("%s.keep must be a table {format =, scale =}, got %s"):format(where,
      type(keep) == "table" and "a function" or shown(keep)))
  end
  recipe_check.check_operand(where .. ".keep", keep)
  for _, field in ipairs {"hadamard", "history", "from", "mask", "across", "smooth"} do
    if keep[field] ~= nil then raise(("%s.keep.%s has no meaning between the passes"):format(where, field)) end
  end
  local input = type(own) == "table" and own.input or recipe.input
  if not own or own == "full" or type(input) ~= "table" then return end
  if input.history then raise(where .. ".keep has no meaning where the input of weight_grad has a history") end
  if input.from then
    raise(where .. ".keep has no meaning where the input of weight_grad is made from the forward pass's")
  end
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
  operand_check.rounding(prefix, recipe.rounding)
  check_places(prefix, recipe)
  check_keep(name .. ": recipe", recipe)
  transform_check.check_products(name .. ": recipe", recipe, products)
end

return recipe_check

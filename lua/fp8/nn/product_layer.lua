--- The base of linear layers and convolutions: layers whose products of inputs, a weight and gradients a recipe
-- quantizes, or none. What is recorded, quantized and multiplied is linear.apply's (linear/apply.lua).
local changes = require "fp8.changes"
local core = require "fp8.core"
local linear_state = require "fp8.linear.state"
local planning = require "fp8.linear.plan"
local published = require "fp8.linear.published"
local recipe_check = require "fp8.linear.recipe_check"
local recipe_copies = require "fp8.linear.recipe_copies"
local recipes = require "fp8.linear.recipes"
local Module = require "fp8.nn.module"

local raise = core.raise

--- Options that every such layer has, as check_options takes them.
local known_options = {bias = "boolean", dtype = "dtype", device = "device", recipe = true, native = "boolean"}
for field in pairs(recipe_check.fields) do known_options[field] = true end

-- The recipe that options describe, or nil: option `recipe`, or else the class's own, with the changes of the others.
local function chosen_recipe(class, options)
  local recipe, default = options.recipe, class.recipe_name
  if options.native then
    if recipe ~= nil or not default then
      raise(class.class_name .. ": option native is for LinearMixed and LinearGlobal without option recipe")
    end
    recipe = published.find(class.class_name, default .. "_native")
  elseif recipe ~= nil then
    recipe = published.resolve(class.class_name, recipe)
  elseif default then
    recipe = published.find(class.class_name, default)
  end
  for option in pairs(options) do
    if recipe_check.fields[option] and not recipe then
      raise(("%s: option %s changes a recipe, and there is none"):format(class.class_name, option))
    end
  end
  return recipe and recipe_copies.override(recipe, options)
end

-- Uniform in [-bound, bound).
local function uniform(shape, bound, options)
  local values = core.rand(shape, {dtype = "f32", device = options.device})
  core.mul_(values, 2 * bound)
  core.sub_(values, bound)
  if options.dtype then values = core.to(values, {dtype = options.dtype}) end
  core.set_requires_grad(values, true)
  return values
end

local ProductLayer = Module:extend("ProductLayer")
ProductLayer.unsearched = {recipe = true, plan = true, state = true}
ProductLayer.recipe_kind = "layer"

--- Makes recipe, plan, state, weight and bias: fields that `init` leaves to it.
-- @param in_features, out_features of the weight as a matrix
-- @param weight_shape of it as it is
-- @param options with those of known_options, checked
function ProductLayer:make(in_features, out_features, weight_shape, options)
  self.in_features, self.out_features = in_features, out_features
  self.recipe = chosen_recipe(self, options)
  self.plan = self.recipe and planning.make(self.class_name, self.recipe, in_features, out_features)
  self.state = linear_state.new(self)
  changes.together(linear_state.renew, self.state, nil, self.plan, options.device)
  local bound = 1 / math.sqrt(in_features)
  self.weight = uniform(weight_shape, bound, options)
  if options.bias ~= false then self.bias = uniform({out_features}, bound, options) end
end

--- Histories are f32.
function ProductLayer:keeps_dtype(field)
  for _, operand in ipairs(self.plan and self.plan.histories or {}) do
    if operand.history_field == field then return true end
  end
  return false
end

--- A history is loaded from one of any length, the latest steps first, and begins anew where there is none.
function ProductLayer:source_of(field, source)
  if not self:keeps_dtype(field) then return source end
  local length = core.size(self[field], 1)
  local history = core.zeros({length}, {dtype = "f32", device = core.device(self[field])})
  if source == nil then return history end
  if not core.is_tensor(source) or core.rank(source) ~= 1 then return source end
  local kept = math.min(length, core.size(source, 1))
  core.copy_(core.narrow(history, 1, 1, kept), core.narrow(source, 1, 1, kept))
  return history
end

local function scale_text(scale)
  return type(scale) == "table" and ("%d x %d"):format(scale[1], scale[2]) or tostring(scale)
end

local further_fields = {
  "second_scale", "largest_scale", "headroom", "constant_scale", "range", "candidates", "smooth", "hadamard", "signs",
  "across", "from", "mask",
}

-- Of a field: a word, a number, a list of numbers, or numbers by name.
local function value_text(value)
  if type(value) ~= "table" then return tostring(value) end
  local texts = {}
  for i, number in ipairs(value) do texts[i] = tostring(number) end
  for _, field in ipairs {"root_mean_square", "mean_magnitude"} do
    if value[field] then texts[#texts + 1] = ("%s = %s"):format(field, value[field]) end
  end
  return "{" .. table.concat(texts, ", ") .. "}"
end

local function operand_text(operand)
  if operand == "full" then return "full" end
  if operand.quantize then return "by a function" end
  local text = ("%s by %s"):format(type(operand.format) == "string" and operand.format or "map",
    scale_text(operand.scale))
  if operand.scale_rounding and operand.scale_rounding ~= "none" then
    text = ("%s (%s)"):format(text, operand.scale_rounding)
  end
  for _, field in ipairs(further_fields) do
    local value = operand[field]
    if value and value ~= "none" then text = ("%s, %s %s"):format(text, field:gsub("_", " "), value_text(value)) end
  end
  if operand.rounding then text = ("%s, %s"):format(text, operand.rounding) end
  return operand.history and ("%s, history %d"):format(text, operand.history) or text
end

-- The operands that a table names, in this order.
local function operands_text(operands, ...)
  local texts = {}
  for _, name in ipairs {...} do
    if operands[name] then texts[#texts + 1] = ("%s: %s"):format(name, operand_text(operands[name])) end
  end
  if operands.accumulate then texts[#texts + 1] = "accumulate: " .. operands.accumulate end
  return table.concat(texts, ", ")
end

--- The operands of a recipe that are named, as text.
ProductLayer.operands_text = operands_text

-- What a product says for itself: a word, or {operands}.
local function product_text(product, ...)
  return type(product) == "table" and ("{%s}"):format(operands_text(product, ...)) or product
end

--- A recipe's name in fp8.recipes, or what it says.
function ProductLayer.recipe_text(recipe)
  local names = {}
  for name in pairs(recipes) do names[#names + 1] = tostring(name) end
  table.sort(names)
  for _, name in ipairs(names) do
    if published.same(recipes[name], recipe) then return name end
  end
  local text = operands_text(recipe, "input", "weight", "grad_output")
  if recipe.forward then text = ("%s, forward: %s"):format(text, product_text(recipe.forward)) end
  if recipe.input_grad then
    text = ("%s, input_grad: %s"):format(text, product_text(recipe.input_grad, "grad_output", "weight"))
  end
  text = ("%s, weight_grad: %s"):format(text, product_text(recipe.weight_grad or "full", "grad_output", "input"))
  if recipe.keep then text = ("%s, keep: %s"):format(text, operand_text(recipe.keep)) end
  return recipe.rounding == "stochastic" and text .. ", rounding: stochastic" or text
end

--- The plan of this layer for a recipe, which may be the name of one, or false for plain; and the recipe, with smoothed
-- operands of x if the field `smooths_input` says so.
-- @param where names the caller in errors
function ProductLayer:plan_for(where, recipe)
  if recipe == false then return nil, nil end
  if recipe == nil then
    raise(where .. ": recipe must be a table, the name of one, or false for plain products, got nil")
  end
  recipe = recipe_copies.copied(published.resolve(where, recipe))
  if self.smooths_input then recipe = recipe_copies.smoothed(recipe) end
  return planning.make(where, recipe, self.in_features, self.out_features), recipe
end

--- Has the layer compute by another recipe from now on, as plan_for gave them; to be called inside changes.together.
-- Weight and bias stay; histories begin anew.
function ProductLayer:adopt(plan, recipe)
  changes.set(self, "plan", plan)
  changes.set(self, "recipe", recipe)
  linear_state.renew(self.state, self.plan, plan, core.device(self.weight))
end

--- Whether recipes are for this layer. To be replaced.
function ProductLayer.takes_recipes() return true end

--- Whether a module is a layer that recipes are for, of a class derived from this one.
local function takes_recipes(module)
  local class = getmetatable(module)
  while type(class) == "table" do
    if class == ProductLayer then return module:takes_recipes() end
    class = getmetatable(class)
    class = class and class.__index
  end
  return false
end

return {ProductLayer = ProductLayer, known_options = known_options, takes_recipes = takes_recipes}

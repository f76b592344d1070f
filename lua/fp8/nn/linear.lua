--- The linear layer as a module, and its two quantized forms: one layer and three recipes (none, `mixed`, `global`).
-- What it computes is linear.apply (linear/apply.lua); fp8.Linear makes one.
local apply_linear = require "fp8.linear.apply"
local arguments = require "fp8.nn.arguments"
local changes = require "fp8.changes"
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local linear_cross_entropy = require "fp8.linear.cross_entropy"
local linear_state = require "fp8.linear.state"
local planning = require "fp8.linear.plan"
local published = require "fp8.linear.published"
local recipe_check = require "fp8.linear.recipe_check"
local recipes = require "fp8.linear.recipes"
local Module = require "fp8.nn.module"

local raise = core.raise

local known_options = {bias = "boolean", dtype = "dtype", device = "device", recipe = true, native = "boolean"}
for field in pairs(recipe_check.fields) do known_options[field] = true end

local function read_options(class_name, options)
  if type(options) == "boolean" then return {bias = options} end
  return check_options(class_name, options, known_options)
end

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
  return recipe and recipe_check.override(recipe, options)
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

local Linear = Module:extend("Linear")
Linear.unsearched = {recipe = true, plan = true, state = true}

--- fp8.Linear(in_features, out_features [, options or bias]): y = x·Wᵀ + b for x (…, in_features), 1 to 4 dimensions.
--
-- Fields: weight (out, in), bias (out) or nil, recipe, in_features, out_features, and for each operand of the recipe
-- with a history that, as `input_history` and the like: f32 tensors that belong to the state_dict. Weight and bias
-- start uniform in ±1 / √in_features, PyTorch's default. Field state: see linear/state.lua.
-- @param options a boolean for `bias`, or a table:
--   bias    whether there is one (true)
--   dtype   of weight and bias, "f32", "f16" or "bf16"; f32 ones go with 16-bit inputs too
--   device  where they are
--   recipe  a table as in fp8.recipes, or a name there; LinearMixed has "mixed" and LinearGlobal "global" anyway
--   native  true: hardware formats, the recipes "mixed_native" and "global_native"
--   and any field of a recipe, which changes that field: {grad_output = {scale = "row"}, rounding = "stochastic"}
--   fp8.Linear(4, 3, {recipe = "mx"})(fp8.randn(2, 4)).shape --> {2, 3}
--   fp8.nn.Linear(4, 3, false).bias --> nil
function Linear:init(in_features, out_features, options)
  local name = self.class_name
  arguments.check_size(name, "in_features", in_features)
  arguments.check_size(name, "out_features", out_features)
  options = read_options(name, options)
  self.in_features, self.out_features = in_features, out_features
  self.recipe = chosen_recipe(self, options)
  self.plan = self.recipe and planning.make(name, self.recipe, in_features, out_features)
  self.state = linear_state.new(self)
  changes.together(linear_state.renew, self.state, nil, self.plan, options.device)
  local bound = 1 / math.sqrt(in_features)
  self.weight = uniform({out_features, in_features}, bound, options)
  if options.bias ~= false then self.bias = uniform({out_features}, bound, options) end
end

--- x (…, in_features) to (…, out_features).
function Linear:forward(x, ...)
  arguments.check_one(self, "an input (…, in_features)", ...)
  local state = self.state
  state.training = self.training
  return apply_linear(x, self.weight, self.bias, self.plan, state)
end

--- The cross-entropy of the layer's outputs as logits, which are never all there at once: linear/cross_entropy.lua. Of
-- their gradient fp8.watch records the last chunk.
-- @param x       (…, in_features)
-- @param targets integers from 0 to out_features - 1, of x's other sizes or a list of as many
-- @param options those of fp8.linear_cross_entropy, but for bias and recipe
function Linear:cross_entropy(x, targets, options)
  local state = self.state
  state.training = self.training
  return linear_cross_entropy.apply("cross_entropy", x, self.weight, self.bias, targets, options, self.plan, state)
end

--- Histories are f32.
function Linear:keeps_dtype(field)
  for _, operand in ipairs(self.plan and self.plan.histories or {}) do
    if operand.history_field == field then return true end
  end
  return false
end

--- A history is loaded from one of any length, the latest steps first, and begins anew where there is none.
function Linear:source_of(field, source)
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

local function operand_text(operand)
  if operand == "full" then return "full" end
  if operand.quantize then return "by a function" end
  local text = ("%s by %s"):format(type(operand.format) == "string" and operand.format or "map",
    scale_text(operand.scale))
  if operand.scale_rounding and operand.scale_rounding ~= "none" then
    text = ("%s (%s)"):format(text, operand.scale_rounding)
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

-- What a product says for itself: a word, or {operands}.
local function product_text(product, ...)
  return type(product) == "table" and ("{%s}"):format(operands_text(product, ...)) or product
end

-- A recipe's name in fp8.recipes, or what it says.
local function recipe_text(recipe)
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
  return recipe.rounding == "stochastic" and text .. ", rounding: stochastic" or text
end

function Linear:description()
  local text = ("%d, %d, bias = %s"):format(self.in_features, self.out_features, tostring(self.bias ~= nil))
  return self.recipe and ("%s, recipe: %s"):format(text, recipe_text(self.recipe)) or text
end

--- fp8.LinearMixed and fp8.LinearGlobal(in_features, out_features [, options or bias]): Linear with the recipes "mixed"
-- and "global", or with native = true "mixed_native" and "global_native".
--   fp8.LinearMixed(64, 3)(fp8.randn(2, 64)).shape --> {2, 3}
--   fp8.nn.LinearMixed(64, 3, {native = true}).recipe.input.format --> "e4m3"
--   fp8.nn.LinearGlobal(64, 3, {rounding = "stochastic"}).recipe.rounding --> "stochastic"
--   fp8.LinearGlobal(64, 3).weight.shape --> {3, 64}
local LinearMixed = Linear:extend("LinearMixed")
LinearMixed.recipe_name = "mixed"

local LinearGlobal = Linear:extend("LinearGlobal")
LinearGlobal.recipe_name = "global"

--- The plan of this layer for a recipe, which may be the name of one, or false for plain; and the recipe.
-- @param where names the caller in errors
function Linear:plan_for(where, recipe)
  if recipe == false then return nil, nil end
  if recipe == nil then
    raise(where .. ": recipe must be a table, the name of one, or false for plain products, got nil")
  end
  recipe = recipe_check.override(where, published.resolve(where, recipe), {})
  return planning.make(where, recipe, self.in_features, self.out_features), recipe
end

--- Has the layer compute by another recipe from now on, as plan_for gave them; to be called inside changes.together.
-- Weight and bias stay; histories begin anew. A LinearMixed or LinearGlobal is called Linear then.
function Linear:adopt(plan, recipe)
  changes.set(self, "plan", plan)
  changes.set(self, "recipe", recipe)
  linear_state.renew(self.state, self.plan, plan, core.device(self.weight))
  local class = getmetatable(self)
  if class == LinearMixed or class == LinearGlobal then changes.set(self, "class_name", Linear.class_name) end
end

--- Whether a module is a linear layer, of these classes or one derived from them.
local function is_linear(module)
  local class = getmetatable(module)
  while type(class) == "table" do
    if class == Linear then return true end
    class = getmetatable(class)
    class = class and class.__index
  end
  return false
end

return {Linear = Linear, LinearMixed = LinearMixed, LinearGlobal = LinearGlobal, is_linear = is_linear}

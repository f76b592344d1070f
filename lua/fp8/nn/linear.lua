--- The linear layer as a module, and its two quantized forms: one layer and three recipes (none, `mixed`, `global`).
local core = require "fp8.core"
local linear = require "fp8.linear"
local planning = require "fp8.plan"
local recipes = require "fp8.recipes"
local Module = require "fp8.nn.module"

local raise = core.raise

local own_options = {bias = true, dtype = true, device = true, recipe = true, native = true}
local parameter_dtypes = {f32 = true, f16 = true, bf16 = true}

local function check_features(class_name, argument, features)
  local valid = type(features) == "number" and features >= 1 and features == math.floor(features) and features < 2^53
  if not valid then
    raise(("%s: %s must be a whole number of at least 1, got %s"):format(class_name, argument, tostring(features)))
  end
end

local function read_options(class_name, options)
  if options == nil then return {} end
  if type(options) == "boolean" then return {bias = options} end
  if type(options) ~= "table" then
    raise(("%s: the options must be a table or the boolean `bias`, got %s"):format(class_name, type(options)))
  end
  for option in pairs(options) do
    if not own_options[option] and not planning.is_recipe_field(option) then
      raise(("%s: unknown option %s"):format(class_name, tostring(option)))
    end
  end
  for _, option in ipairs {"bias", "native"} do
    if options[option] ~= nil and type(options[option]) ~= "boolean" then
      raise(("%s: option %s must be a boolean, got %s"):format(class_name, option, type(options[option])))
    end
  end
  if options.dtype ~= nil and not parameter_dtypes[options.dtype] then
    raise(("%s: option dtype must be f32, f16 or bf16, got %s"):format(class_name, tostring(options.dtype)))
  end
  return options
end

-- The recipe that options describe, or nil: option `recipe`, or else the class's own, with the changes of the others.
local function chosen_recipe(class, options)
  local recipe, default = options.recipe, class.recipe_name
  if options.native then
    if recipe ~= nil or not default then
      raise(class.class_name .. ": option native is for LinearMixed and LinearGlobal without option recipe")
    end
    recipe = recipes[default .. "_native"]
  elseif type(recipe) == "string" then
    recipe = recipes[recipe] or raise(("%s: there is no recipe '%s' in fp8.recipes"):format(class.class_name, recipe))
  elseif recipe == nil and default then
    recipe = recipes[default]
  end
  if recipe ~= nil and type(recipe) ~= "table" then
    raise(("%s: option recipe must be a table or the name of one, got %s"):format(class.class_name, type(recipe)))
  end
  for option in pairs(options) do
    if planning.is_recipe_field(option) and not recipe then
      raise(("%s: option %s changes a recipe, and there is none"):format(class.class_name, option))
    end
  end
  return recipe and planning.override(class.class_name, recipe, options)
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

--- fp8.Linear(in_features, out_features [, options or bias]): y = x·Wᵀ + b for x (…, in_features), 1 to 4 dimensions.
--
-- Fields: weight (out, in), bias (out) or nil, recipe, in_features, out_features. Weight and bias start uniform in
-- ±1 / √in_features, PyTorch's default. Field observer is set while fp8.watch records.
-- @param options a boolean for `bias`, or a table:
--   bias    whether there is one (true)
--   dtype   of weight and bias, "f32", "f16" or "bf16"; f32 ones go with 16-bit inputs too
--   device  where they are
--   recipe  a table as in fp8.recipes, or a name there; LinearMixed has "mixed" and LinearGlobal "global" anyway
--   native  true: hardware formats, the recipes "mixed_native" and "global_native"
--   and any field of a recipe, which changes that field: {grad_output = {scale = "row"}, rounding = "stochastic"}
function Linear:init(in_features, out_features, options)
  local name = self.class_name
  check_features(name, "in_features", in_features)
  check_features(name, "out_features", out_features)
  options = read_options(name, options)
  self.in_features, self.out_features = in_features, out_features
  self.recipe = chosen_recipe(self, options)
  self.plan = self.recipe and planning.make(name, self.recipe, in_features, out_features)
  self.quantized_weight = self.plan and {}
  local bound = 1 / math.sqrt(in_features)
  self.weight = uniform({out_features, in_features}, bound, options)
  if options.bias ~= false then self.bias = uniform({out_features}, bound, options) end
end

--- x (…, in_features) to (…, out_features).
function Linear:forward(x)
  return linear(x, self.weight, self.bias, self.plan, self.quantized_weight, self.observer)
end

local function operand_text(operand)
  local format = type(operand.format) == "string" and operand.format or "map"
  return ("%s by %s"):format(format, operand.scale)
end

function Linear:__tostring()
  local text = ("%s(%d, %d, bias = %s"):format(self.class_name, self.in_features, self.out_features, self.bias ~= nil)
  local recipe = self.recipe
  if recipe then
    text = ("%s, input: %s, weight: %s, grad_output: %s, weight_grad: %s"):format(text, operand_text(recipe.input),
      operand_text(recipe.weight), operand_text(recipe.grad_output), recipe.weight_grad or "full")
  end
  return text .. ")"
end

local LinearMixed = Linear:extend("LinearMixed")
LinearMixed.recipe_name = "mixed"

local LinearGlobal = Linear:extend("LinearGlobal")
LinearGlobal.recipe_name = "global"

return {Linear = Linear, LinearMixed = LinearMixed, LinearGlobal = LinearGlobal}

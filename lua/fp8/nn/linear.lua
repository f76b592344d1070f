--- The linear layer as a module, and its two quantized forms: one layer and three recipes (none, `mixed`, `global`).
-- What it computes is linear.apply (linear/apply.lua); fp8.Linear makes one.
local apply_linear = require "fp8.linear.apply"
local arguments = require "fp8.nn.arguments"
local changes = require "fp8.changes"
local check_options = require "fp8.check_options"
local linear_cross_entropy = require "fp8.linear.cross_entropy"
local product_layer = require "fp8.nn.product_layer"

local ProductLayer = product_layer.ProductLayer

local function read_options(class_name, options)
  if type(options) == "boolean" then return {bias = options} end
  return check_options(class_name, options, product_layer.known_options)
end

local Linear = ProductLayer:extend("Linear")

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
  self:make(in_features, out_features, {out_features, in_features}, read_options(name, options))
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

function Linear:description()
  local text = ("%d, %d, bias = %s"):format(self.in_features, self.out_features, tostring(self.bias ~= nil))
  return self.recipe and ("%s, recipe: %s"):format(text, self.recipe_text(self.recipe)) or text
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

--- ProductLayer:adopt; a LinearMixed or LinearGlobal is called Linear then.
function Linear:adopt(plan, recipe)
  ProductLayer.adopt(self, plan, recipe)
  local class = getmetatable(self)
  if class == LinearMixed or class == LinearGlobal then changes.set(self, "class_name", Linear.class_name) end
end

return {Linear = Linear, LinearMixed = LinearMixed, LinearGlobal = LinearGlobal}

--- A table of vectors, one for each token.
local changes = require "fp8.changes"
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local arguments = require "fp8.nn.arguments"
local embed = require "fp8.ops.embedding"
local Module = require "fp8.nn.module"
local recipe_copies = require "fp8.linear.recipe_copies"
local ProductLayer = require("fp8.nn.product_layer").ProductLayer

local Embedding = Module:extend("Embedding")
Embedding.unsearched = {recipe = true, plan = true}
Embedding.recipe_kind = "embedding"

--- fp8.nn.Embedding(count, features [, {dtype =, device =, recipe =}]): `weight` (count, features) starts standard
-- normal. A recipe {rows = operand} says to what the rows that are looked up are quantized, as fp8.embedding has it;
-- fp8.convert gives another one.
--   fp8.nn.Embedding(100, 8)(fp8.tensor({3, 99}, {dtype = "i64"})).shape --> {2, 8}
function Embedding:init(count, features, options)
  arguments.check_size(self.class_name, "count", count)
  arguments.check_size(self.class_name, "features", features)
  options = check_options(self.class_name, options, {dtype = "dtype", device = "device", recipe = true})
  self.count, self.features = count, features
  self.weight = core.randn({count, features}, {dtype = options.dtype, device = options.device, requires_grad = true})
  if options.recipe ~= nil then self.plan, self.recipe = self:plan_for(self.class_name, options.recipe) end
end

--- The plan of this module for a recipe {rows = operand}, or false for none; and the recipe.
-- @param where names the caller in errors
function Embedding:plan_for(where, recipe)
  if recipe == false then return nil, nil end
  return embed.planned(where .. ": recipe", recipe, self.features), recipe_copies.copied(recipe)
end

--- Takes another recipe, as plan_for gave it; to be called inside changes.together.
function Embedding:adopt(plan, recipe)
  changes.set(self, "plan", plan)
  changes.set(self, "recipe", recipe)
end

--- Integers of any shape, from 0 to count - 1, to that shape and features.
function Embedding:forward(indices, ...)
  arguments.check_one(self, "a tensor of integers", ...)
  return embed.look_up(self.weight, indices, self.plan)
end

function Embedding:description()
  local text = ("%d, %d"):format(self.count, self.features)
  return self.recipe and ("%s, recipe: %s"):format(text, ProductLayer.operands_text(self.recipe, "rows")) or text
end

return Embedding

--- Look-up of rows, one for each token.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local check_options = require "fp8.check_options"
local operands = require "fp8.linear.operands"
local planning = require "fp8.linear.plan"
local recipe_check = require "fp8.linear.recipe_check"

local looking_up = {
  name = "embedding",
  backward = function(node, grad, indices)
    local shape, count = node.weight_shape, core.numel(indices)
    local positions, whole = core.view(core.contiguous(indices), {count}), core.contiguous(grad)
    local rows = core.view(whole, {count, shape[2]})
    local sums = core.index_add(shape, 1, positions, rows, node.dtype)
    core.free(rows)
    if whole ~= grad then core.free(whole) end
    return sums
  end,
}

-- The operand of a recipe {rows = operand} for rows of so many features; nil for rows that are left alone.
local function planned(where, recipe, features)
  if type(recipe) ~= "table" then
    core.raise(("%s must be a table {rows = operand}, got %s"):format(where, type(recipe)))
  end
  for field in pairs(recipe) do
    if field ~= "rows" then core.raise(("%s: unknown field %s; there is rows alone"):format(where, tostring(field))) end
  end
  local operand = planning.operand(where .. ".rows", recipe.rows, features, "rows")
  recipe_check.check_outside(where .. ".rows", recipe.rows, "an embedding")
  return not operand.full and operand or nil
end

-- @param operand of `planned`, or nil
local function look_up(weight, indices, operand)
  local y = core.embedding(weight, indices)
  if operand then
    local rows = y
    y = operands.values_in_shape(rows, operand)
    core.free(rows)
  end
  if autograd.needs_grad(weight) then
    autograd.record(y, looking_up, {weight}, {indices}).weight_shape = core.shape(weight)
  end
  return y
end

--- The rows of a matrix that integers name. The gradient of a row that is named several times adds up, in the order of
-- the indices on every device: the same gradients give the same bits.
-- @param weight  (count, features), f32, f16 or bf16
-- @param indices integers from 0 to count - 1, of any shape
-- @param options {recipe = {rows = operand}}: the rows that were looked up are quantized to an operand as in
--   fp8.recipes, as one matrix; gradients pass straight through
-- @return indices' shape and features, of the weight's dtype
--   fp8.embedding(fp8.tensor({{1, 2}, {3, 4}}), fp8.tensor({1, 0, 1}, {dtype = "i64"})) --> {{3, 4}, {1, 2}, {3, 4}}
--   local recipe = {rows = {format = "e2m1", scale = "tensor", constant_scale = 1}}
--   fp8.embedding(fp8.tensor {{1, 2.4}}, fp8.tensor({0}, {dtype = "i64"}), {recipe = recipe}) --> {{1, 2}}
local function embedding(weight, indices, options)
  options = check_options("embedding", options, {recipe = true})
  local operand
  if options.recipe ~= nil then
    local features = core.is_tensor(weight) and core.rank(weight) > 0 and core.size(weight, -1) or 1
    operand = planned("embedding: recipe", options.recipe, features)
  end
  return look_up(weight, indices, operand)
end

return {embedding = embedding, look_up = look_up, planned = planned}

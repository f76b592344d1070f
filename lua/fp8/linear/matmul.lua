--- Products a·b in the precision of a recipe, differentiable in both operands: the function form of the two layers.
local apply_linear = require "fp8.linear.apply"
local check_options = require "fp8.check_options"
local core = require "fp8.core"
local planning = require "fp8.linear.plan"
local recipe_check = require "fp8.linear.recipe_check"
local recipe_copies = require "fp8.linear.recipe_copies"
local published = require "fp8.linear.published"
local shapes = require "fp8.shapes"
local views = require "fp8.ops.view"

local raise = core.raise

local linear_matmul = {}

local known_options = {native = true, blocksize = true, grad_blocksize = true}
for field in pairs(recipe_check.fields) do known_options[field] = true end

-- The recipe called `name`, or its native twin, with the changes that options ask for.
local function recipe_of(caller, name, options)
  if options == nil then return published.find(caller, name) end
  check_options(caller, options, known_options)
  local usual = published.find(caller, options.native and name .. "_native" or name)
  local recipe = recipe_copies.override(usual, options)
  return recipe_copies.override(recipe, {
    input = options.blocksize and {scale = options.blocksize},
    grad_output = options.grad_blocksize and {scale = options.grad_blocksize},
  })
end

local function multiply(caller, name, a, b, options)
  if not core.is_tensor(a) then raise(("%s: a must be a tensor, got %s"):format(caller, type(a))) end
  if not core.is_tensor(b) then raise(("%s: b must be a tensor, got %s"):format(caller, type(b))) end
  if core.rank(b) ~= 2 then
    raise(("%s: b must have 2 dimensions, got shape %s"):format(caller, shapes.text(core.shape(b))))
  end
  local inner = core.rank(a) > 0 and core.size(a, -1) or nil
  if inner ~= core.size(b, 1) then
    raise(("%s: shapes %s and %s don't fit: the last size of a must be the first of b"):format(caller,
      shapes.text(core.shape(a)), shapes.text(core.shape(b))))
  end
  local plan = planning.make(caller, recipe_of(caller, name, options), core.size(b, 1), core.size(b, 2))
  if plan.histories[1] then raise(caller .. ": delayed scaling is for layers, which keep the history") end
  return apply_linear(a, views.transpose(b, 1, 2), nil, plan)
end

--- a·b by the recipe `mixed`: a (…, K) quantized blockwise, b (K, N) as a whole; see recipes.lua.
-- @param options {native = true for hardware formats; blocksize =, grad_blocksize = scales (a block length, or another
--   scale of a recipe) of a and of the gradient; or fields of a recipe to change}
-- @return (…, N) of a's dtype
--   fp8.matmul_mixed(fp8.ones(2, 4), fp8.ones(4, 3)) --> {{4, 4, 4}, {4, 4, 4}}
function linear_matmul.matmul_mixed(a, b, options) return multiply("matmul_mixed", "mixed", a, b, options) end

--- a·b by the recipe `global`: a (…, K), b (K, N) and the gradient each quantized as a whole; options as above.
--   fp8.matmul_global(fp8.ones(1, 4), fp8.ones(4, 2)) --> {{4, 4}}
function linear_matmul.matmul_global(a, b, options) return multiply("matmul_global", "global", a, b, options) end

return linear_matmul

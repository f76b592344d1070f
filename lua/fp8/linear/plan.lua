--- From a recipe to a plan: checked, with block lengths for the sizes of one layer, and with the products chosen that
-- FP8 tensor cores can compute. A plan is what linear.apply works from:
--
--   forward      y = left·rightᵀ:  {left =, right =, native =}, operands of x and W
--   input_grad   dx = left·right:  of dy and W
--   weight_grad  dW = leftᵀ·right: of dy and x; nil for the product of unquantized ones
--   rounding     "stochastic" or nil, of all operands
--   histories    list of the operands with a history, of which a layer keeps one each, in its field `history_field`
--   weight_forms, grad_forms: the forms of W, for y and dx, and of dy, for dx and dW, that are wanted: {first =,
--                second =, both = where one operand serves both products, else false}, each {codes =, transposed =,
--                values =, repeats = how often a single scale is, or nil}
--   input, weight, grad_output: the operands that these are in a recipe
--
-- An operand is {format =, scale =, blocksize =, rounding =, scale_rounding =, history =, history_field =,
-- quantizer =}, where blocksize is a block length, a tile {rows, columns} or nil for the whole tensor, and the
-- quantizer, which core functions take, says the same as the format, the blocksize and both roundings. What several
-- products take in the same form is one table in all of them. A native product is one of codes, not of values.
local core = require "fp8.core"
local recipe_check = require "fp8.linear.recipe_check"

local is_hardware = recipe_check.is_hardware

local plan = {}

local all_rows = 2^52

--- The block length of scale "block": the smallest power of two from 64 to 4096 that is at least `features`, or 4096.
function plan.block_length(features)
  local length = 64
  while length < features and length < 4096 do length = length * 2 end
  return length
end

-- The blocks of an operand with so many columns, as core.quantize takes them.
local function blocks_of(scale, columns)
  if scale == "tensor" then return nil end
  if scale == "row" then return math.max(columns, 1) end
  if scale == "column" then return {all_rows, 1} end
  if scale == "block" then return plan.block_length(columns) end
  return type(scale) == "table" and {scale[1], scale[2]} or scale
end

-- `made` is the plan that is being made.
local function planned(made, operand, columns, name)
  local scale_rounding = operand.scale_rounding
  local result = {
    format = operand.format, scale = operand.scale, blocksize = blocks_of(operand.scale, columns),
    rounding = made.rounding, scale_rounding = scale_rounding ~= "none" and scale_rounding or nil,
    history = operand.history,
  }
  result.quantizer = core.quantizer {
    format = result.format, blocksize = result.blocksize, rounding = result.rounding,
    scale_rounding = result.scale_rounding,
  }
  if operand.history then
    result.history_field = name .. "_history"
    made.histories[#made.histories + 1] = result
  end
  return result
end

local function same_scale(a, b)
  if type(a) == "table" and type(b) == "table" then return a[1] == b[1] and a[2] == b[2] end
  return a == b
end

-- `operand`, planned, or `usual` if that is the same; an operand with a history has its own.
local function own_or(made, usual, operand, columns, name)
  if not operand then return usual end
  local rounding = operand.scale_rounding ~= "none" and operand.scale_rounding or nil
  if operand.format == usual.format and same_scale(operand.scale, usual.scale) and rounding == usual.scale_rounding and
    not operand.history and not usual.history then
    return usual
  end
  return planned(made, operand, columns, name)
end

-- Codes can be multiplied where their scales can be applied to the sums: one scale for the operand, or one for each row
-- of what is summed over columns, one for each column of what is summed over rows. Beside scales of rows or columns, a
-- single scale is wanted as often as the product has columns (`repeats`).
local function product(left, left_scale, right, right_scale)
  local function fits(operand, scale)
    return is_hardware[operand.format] and (operand.scale == "tensor" or operand.scale == scale) or false
  end
  local native = fits(left, left_scale) and fits(right, right_scale)
  return {
    left = left, right = right, native = native,
    repeats = native and left.scale ~= "tensor" and right.scale == "tensor",
  }
end

-- The codes of a weight that one product takes are decoded for the other.
local function weight_forms(first, second, rows, columns)
  local shared, native = first.right == second.right, second.native
  local repeats = (first.repeats or shared and second.repeats) and math.max(rows, columns) or nil
  local function forms_of_first(transposed)
    return {codes = first.native, transposed = transposed, values = not first.native, repeats = repeats}
  end
  return {
    first = forms_of_first(false), both = shared and forms_of_first(native),
    second = {codes = false, transposed = native, values = not native, repeats = second.repeats and columns or nil},
  }
end

local function grad_forms(first, second)
  local native = second and second.native or false
  return {
    first = {codes = first.native, transposed = false, values = not first.native},
    second = {codes = false, transposed = native, values = not native},
    both = second and first.left == second.left and
      {codes = first.native, transposed = native, values = not (first.native and native)},
  }
end

--- How one operand of a recipe, for rows of `features`, is quantized: an operand of a plan.
-- @param where what to call it in errors
function plan.operand(where, operand, features)
  recipe_check.check_operand(where, operand)
  return planned({histories = {}}, operand, features, "own")
end

--- The plan of a recipe.
-- @param name of the function to name in errors
-- @param in_features, out_features of the layer
function plan.make(name, recipe, in_features, out_features)
  recipe_check.check(name, recipe)
  local made = {rounding = recipe.rounding == "stochastic" and "stochastic" or nil, histories = {}}
  local input = planned(made, recipe.input, in_features, "input")
  local weight = planned(made, recipe.weight, in_features, "weight")
  local grad_output = planned(made, recipe.grad_output, out_features, "grad_output")
  local of_input, of_weight = recipe.input_grad or {}, recipe.weight_grad
  made.input, made.weight, made.grad_output = input, weight, grad_output
  made.forward = product(input, "row", weight, "row")
  made.input_grad = product(
    own_or(made, grad_output, of_input.grad_output, out_features, "input_grad_grad_output"), "row",
    own_or(made, weight, of_input.weight, in_features, "input_grad_weight"), "column")
  if of_weight and of_weight ~= "full" then
    if of_weight == "quantized" then of_weight = {} end
    made.weight_grad = product(
      own_or(made, grad_output, of_weight.grad_output, out_features, "weight_grad_grad_output"), "column",
      own_or(made, input, of_weight.input, in_features, "weight_grad_input"), "column")
  end
  made.weight_forms = weight_forms(made.forward, made.input_grad, out_features, in_features)
  made.grad_forms = grad_forms(made.input_grad, made.weight_grad)
  return made
end

return plan

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
--   keep         the operand in whose codes x is kept for dW, or nil
--   both_ways    {input =, weight =, grad_output =}: what is made in one go for its two products, which take different
--                operands: "codes", "values" or false
--   is_simple    whether backward products need nothing of the forward one but x and W, and their results are gradients
--   without_runs the same plan without products by runs, if it has some (`plan.on`)
--
-- An operand is {format =, scale =, blocksize =, rounding =, scale_rounding =, second_scale =, headroom =,
-- constant_scale =, range =, candidates =, largest_scale =, hadamard =, transform_signs =, down =, across =, smooth =,
-- from =, mask =, prepared =, fused =, history =, history_field =, quantizer =}, where blocksize is
-- a block length, a tile {rows, columns} or nil for the whole tensor, and the quantizer, which core functions take,
-- says the same as the format, the blocksize, both roundings and the other fields of scales. With `hadamard` it is
-- first transformed, by these signs, along its rows or `down` its columns; with `across` along the others. `prepared`:
-- it is not x itself that is quantized, or there is a mask beside it; `fused`: all there is to it is a transform, which
-- is computed with its values. What several products take in the same form is one table in all of them. A native
-- product is one of codes, not of values; it is by `runs` where sums of 128 terms have scales of their own.
local core = require "fp8.core"
local formats = require "fp8.linear.formats"
local published = require "fp8.linear.published"
local recipe_check = require "fp8.linear.recipe_check"

local dtype_of, scales_runs = core.dtype, core.scales_runs
local is_hardware, same = formats.is_hardware, published.same

local plan = {}

local all_rows = 2^52

--- The block length of scale "block": the smallest power of two from 64 to 4096 that is at least `features`, or 4096.
function plan.block_length(features)
  local length = 64
  while length < features and length < 4096 do length = length * 2 end
  return length
end

--- The blocks of an operand with so many columns, as core.quantize takes them.
function plan.blocks_of(scale, columns)
  if scale == "tensor" then return nil end
  if scale == "row" then return math.max(columns, 1) end
  if scale == "column" then return {all_rows, 1} end
  if scale == "block" then return plan.block_length(columns) end
  return type(scale) == "table" and {scale[1], scale[2]} or scale
end

-- nil for "nearest", which is what nothing said means.
local function rounding_of(made, operand)
  local rounding = operand.rounding or made.rounding
  return rounding == "stochastic" and rounding or nil
end

local full = {full = true} -- an operand that is left alone

-- The same value for what an operand says and what it leaves out.
local usual_values = {scale_rounding = "none", second_scale = "none"}
local function said(operand, field)
  local value = operand[field]
  return value ~= usual_values[field] and value or nil
end

--- The signs that "random" stands for: a list of `length` times 1 or -1, always the same, so that a network that goes
-- on from a file has those that it had. The upper bits of the generator of Lehmer, with the multiplier 48271.
function plan.random_signs(length)
  local state, signs = length, {}
  for i = 1, length do
    state = state * 48271 % 2147483647
    signs[i] = state < 2^30 and 1 or -1
  end
  return signs
end

-- Signs as core.hadamard takes them, unless products draw them.
local function signs_of(operand)
  local signs, length = operand.signs, operand.hadamard
  if not signs or signs == "step" then return nil end
  if signs == "random" then signs = plan.random_signs(length) end
  local text = {}
  for i = 1, length do text[i] = signs[i] < 0 and "-" or "+" end
  return table.concat(text)
end

--- A core.quantizer for the fields of an operand, or options that have the same.
-- @param blocksize as plan.blocks_of gives it
function plan.quantizer(fields, blocksize, rounding)
  local range = fields.range or {}
  return core.quantizer {
    format = fields.format, blocksize = blocksize, rounding = rounding, scale_rounding = fields.scale_rounding,
    second_scale = fields.second_scale, headroom = fields.headroom, constant_scale = fields.constant_scale,
    root_mean_square = range.root_mean_square, mean_magnitude = range.mean_magnitude, candidates = fields.candidates,
    largest_scale = fields.largest_scale,
  }
end

local copied_fields = {
  "headroom", "constant_scale", "range", "candidates", "largest_scale", "hadamard", "signs", "smooth", "across", "from",
  "mask", "history",
}

-- `made` is the plan that is being made.
local function planned(made, operand, columns, name)
  if operand == "full" then return full end
  if operand.quantize then
    return {quantize = operand.quantize, name = name:match "grad_output$" or name:match "%a+$"}
  end
  local result = {
    format = operand.format, scale = operand.scale, blocksize = plan.blocks_of(operand.scale, columns),
    rounding = rounding_of(made, operand), scale_rounding = said(operand, "scale_rounding"),
    second_scale = said(operand, "second_scale"), transform_signs = signs_of(operand),
    prepared = (operand.hadamard or operand.across or operand.smooth or operand.mask) and true or nil,
  }
  local is_plain = not (operand.across or operand.smooth or operand.mask)
  result.fused = operand.hadamard and is_plain or nil
  for _, field in ipairs(copied_fields) do result[field] = operand[field] or nil end
  result.quantizer = plan.quantizer(result, result.blocksize, result.rounding)
  if operand.history then
    result.history_field = name .. "_history"
    made.histories[#made.histories + 1] = result
  end
  return result
end

--- Whether an operand says no more than a format and a scale: its codes follow from its values alone, and the values
-- that these stand for have the same codes.
function plan.is_bare(operand)
  for _, field in ipairs {"rounding", "scale_rounding", "second_scale", unpack(copied_fields)} do
    if operand[field] then return false end
  end
  return true
end

-- `operand`, planned, or `usual` if that is the same; an operand with a history has its own.
local function own_or(made, usual, operand, columns, name)
  if not operand then return usual end
  if operand == "full" or operand.quantize then
    return operand.quantize and operand.quantize == usual.quantize and usual or planned(made, operand, columns, name)
  end
  local is_same = same(operand.scale, usual.scale) and rounding_of(made, operand) == usual.rounding and
    not operand.history and not usual.history
  for _, field in ipairs {"format", "scale_rounding", "second_scale", unpack(copied_fields)} do
    is_same = is_same and same(said(operand, field) or nil, usual[field])
  end
  return is_same and usual or planned(made, operand, columns, name)
end

local side = 16 -- of a product by runs: its sizes are multiples of this
local run = 128 -- terms, whose sums FP8 tensor cores can scale before they are added

-- Whether an operand has a scale for every run of what is summed over, along rows or columns, and of 1 or `run` others.
local function has_runs(operand, along)
  local scale = operand.scale
  if type(scale) ~= "table" or operand.prepared or not is_hardware(operand.format) then return false end
  local length, across = scale[along == "row" and 2 or 1], scale[along == "row" and 1 or 2]
  return length == run and (across == 1 or across == run)
end

-- Codes can be multiplied where their scales can be applied to the sums: one scale for the operand, or one for each row
-- of what is summed over columns, one for each column of what is summed over rows; or to sums of runs. Beside scales of
-- rows or columns, a single scale is wanted as often as the product has columns (`repeats`).
-- @param fast      how sums are accumulated on FP8 tensor cores (backend.h, scaled_matmul)
-- @param with_runs whether there may be a product by runs
local function product(left, left_scale, right, right_scale, fast, with_runs)
  local function fits(operand, scale)
    local fitting = operand.scale == "tensor" or operand.scale == scale
    return is_hardware(operand.format) and not operand.prepared and fitting or false
  end
  local plain = fits(left, left_scale) and fits(right, right_scale)
  local runs = with_runs and has_runs(left, left_scale) and has_runs(right, right_scale) and
    not (left.format == "e5m2" and right.format == "e5m2")
  return {
    left = left, right = right, native = plain or runs, runs = runs, fast = fast,
    repeats = plain and left.scale ~= "tensor" and right.scale == "tensor",
  }
end

-- The operand as one product transforms it: "row" or "column" is what that sums over.
local function along(operand, direction)
  if not (operand.hadamard or operand.across) then return operand end
  local copy = {down = direction == "column"}
  for field, value in pairs(operand) do copy[field] = value end
  return copy
end

local small_tile = 256 -- elements, at most, of tiles in which a GPU quantizes both ways in a go

local function is_in_small_tiles(operand)
  local scale = operand.scale
  if operand.full or operand.quantize or operand.from then return false end
  if operand.prepared and not operand.fused then return false end
  return type(scale) == "table" and scale[1] * scale[2] <= small_tile
end

-- What is made together of an operand of two products, along rows for one and along columns for the other: "codes",
-- "values" or, false, nothing.
-- @param later whether the other product comes later: signs that are drawn for it are not there yet
local function both_ways(first, one, second, other, later)
  if not (first and second) or first.native ~= second.native or one == other then return false end
  if not first.native then
    local known = not later or one.signs ~= "step" and other.signs ~= "step"
    return known and is_in_small_tiles(one) and is_in_small_tiles(other) and "values"
  end
  local function takes(operand, scale)
    return not operand.history and not operand.from and (operand.scale == scale or type(operand.scale) == "table")
  end
  return takes(one, "row") and takes(other, "column") and "codes"
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
-- @param name  that a script's function is called with ("own")
function plan.operand(where, operand, features, name)
  recipe_check.check_alone(where, operand)
  return planned({histories = {}}, operand, features, name or "own")
end

local function is_simple(made)
  if made.forward.left.mask or made.forward.right.mask then return false end
  for _, backward in ipairs {made.input_grad, made.weight_grad} do
    if backward.right.from or backward.left.across or backward.right.across then return false end
  end
  return true
end

-- Fills in what follows from the operands of the products.
local function complete(made, operands, with_runs, in_features, out_features)
  made.forward =
    product(operands.forward_input, "row", operands.forward_weight, "row", operands.fast.forward, with_runs)
  made.input_grad =
    product(operands.grad_output, "row", operands.weight, "column", operands.fast.input_grad, with_runs)
  if operands.second_grad_output then
    made.weight_grad = product(operands.second_grad_output, "column", operands.input, "column",
      operands.fast.weight_grad, with_runs)
  end
  made.is_simple = is_simple(made)
  local forward, input_grad, weight_grad = made.forward, made.input_grad, made.weight_grad
  made.weight_forms = weight_forms(forward, input_grad, out_features, in_features)
  made.grad_forms = grad_forms(input_grad, weight_grad)
  made.both_ways = {
    input = both_ways(forward, forward.left, weight_grad, weight_grad and weight_grad.right, true),
    weight = both_ways(forward, forward.right, input_grad, input_grad.right, true),
    grad_output = both_ways(input_grad, input_grad.left, weight_grad, weight_grad and weight_grad.left),
  }
  return made
end

-- Whether a product is accumulated fast, which is `usual` where it does not say.
local function accumulates_fast(product_fields, usual)
  local accumulate = type(product_fields) == "table" and product_fields.accumulate
  if not accumulate then return usual end
  return accumulate == "fast"
end

--- The plan of a recipe.
-- @param name of the function to name in errors
-- @param in_features, out_features of the layer
function plan.make(name, recipe, in_features, out_features)
  recipe_check.check(name, recipe)
  local made = {rounding = recipe.rounding == "stochastic" and "stochastic" or nil, histories = {}}
  made.input = planned(made, recipe.input, in_features, "input")
  made.weight = planned(made, recipe.weight, in_features, "weight")
  made.grad_output = planned(made, recipe.grad_output, out_features, "grad_output")
  made.keep = recipe.keep and planned(made, recipe.keep, in_features, "keep")
  local of_input, of_weight = recipe.input_grad or {}, recipe.weight_grad
  if of_input == "full" then of_input = {grad_output = "full", weight = "full"} end
  local is_full = recipe.forward == "full"
  local operands = {
    forward_input = is_full and full or made.input, forward_weight = is_full and full or made.weight,
    fast = {
      forward = accumulates_fast(recipe.forward, true), input_grad = accumulates_fast(of_input, false),
      weight_grad = accumulates_fast(of_weight, false),
    },
    grad_output = own_or(made, made.grad_output, of_input.grad_output, out_features, "input_grad_grad_output"),
    weight = own_or(made, made.weight, of_input.weight, in_features, "input_grad_weight"),
  }
  if of_weight and of_weight ~= "full" then
    if of_weight == "quantized" then of_weight = {} end
    operands.second_grad_output =
      own_or(made, made.grad_output, of_weight.grad_output, out_features, "weight_grad_grad_output")
    operands.input = own_or(made, made.input, of_weight.input, in_features, "weight_grad_input")
  end
  operands.forward_input = along(operands.forward_input, "row")
  operands.forward_weight = along(operands.forward_weight, "row")
  operands.grad_output, operands.weight = along(operands.grad_output, "row"), along(operands.weight, "column")
  if operands.input then
    operands.second_grad_output, operands.input =
      along(operands.second_grad_output, "column"), along(operands.input, "column")
  end
  local fits = in_features % side == 0 and out_features % side == 0
  complete(made, operands, fits, in_features, out_features)
  if made.forward.runs or made.input_grad.runs or made.weight_grad and made.weight_grad.runs then
    local other = {}
    for field, value in pairs(made) do other[field] = value end
    made.without_runs = complete(other, operands, false, in_features, out_features)
  end
  return made
end

--- The plan, or that without runs where they are not for x.
-- @param rows of x as a matrix
function plan.on(made, x, rows)
  local other = made.without_runs
  if not other or dtype_of(x) ~= "f32" and rows > 0 and rows % side == 0 and scales_runs(x) then return made end
  return other
end

return plan

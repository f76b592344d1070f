--- From a recipe to a plan: checked, with block lengths for the sizes of one layer, and with the products chosen that
-- FP8 tensor cores can compute. A plan is what fp8.linear works from:
--
--   input, weight, grad_output  {format =, scale =, blocksize = (nil: the whole tensor)}
--   rounding                    "stochastic" or nil
--   quantized_weight_grad       whether dW is computed from quantized operands
--   native                      {forward =, input_grad =, weight_grad =}: which products are of codes, not of values
local core = require "fp8.core"

local raise = core.raise

local plan = {}

local operands = {"input", "weight", "grad_output"}
local choices = {weight_grad = {full = true, quantized = true}, rounding = {nearest = true, stochastic = true}}
local choice_names = {weight_grad = '"full" or "quantized"', rounding = '"nearest" or "stochastic"'}
local hardware = {e4m3 = true, e5m2 = true}
local accepted_scales = '"tensor", "row", "block" or a block length (a whole number of at least 1)'

--- Whether `field` is one of a recipe.
function plan.is_recipe_field(field)
  return choices[field] ~= nil or field == "input" or field == "weight" or field == "grad_output"
end

local function shown(value)
  return type(value) == "string" and ('"%s"'):format(value) or
    type(value) == "number" and tostring(value) or type(value)
end

-- Maps that have passed check_format, and the version of their contents then.
local checked_maps = setmetatable({}, {__mode = "k"})

local function check_format(where, format)
  if hardware[format] then return end
  if not core.is_tensor(format) then
    raise(('%s.format must be a map (a tensor of 256 values), "e4m3" or "e5m2", got %s'):format(where, shown(format)))
  end
  local version = core.version(format)
  if checked_maps[format] == version then return end
  local ok, message = pcall(core.quantize, core.zeros({1}, {dtype = "f32", device = "cpu"}), format)
  if not ok then raise(("%s.format: %s"):format(where, message:gsub("^.-quantize: ", ""))) end
  checked_maps[format] = version
end

local function check_scale(where, scale)
  if scale == "tensor" or scale == "row" or scale == "block" then return end
  if type(scale) == "number" and scale >= 1 and scale == math.floor(scale) and scale < 2^53 then return end
  raise(("%s.scale must be %s, got %s"):format(where, accepted_scales, shown(scale)))
end

local function check_operand(where, operand)
  if type(operand) ~= "table" then
    raise(("%s must be a table {format =, scale =}, got %s"):format(where, shown(operand)))
  end
  for field in pairs(operand) do
    if field ~= "format" and field ~= "scale" then raise(("%s: unknown field %s"):format(where, tostring(field))) end
  end
  check_format(where, operand.format)
  check_scale(where, operand.scale)
end

local function check(name, recipe)
  if type(recipe) ~= "table" then raise(("%s: recipe must be a table, got %s"):format(name, shown(recipe))) end
  for field in pairs(recipe) do
    if not plan.is_recipe_field(field) then raise(("%s: recipe: unknown field %s"):format(name, tostring(field))) end
  end
  for _, operand in ipairs(operands) do check_operand(("%s: recipe.%s"):format(name, operand), recipe[operand]) end
  for field, allowed in pairs(choices) do
    local value = recipe[field]
    if value ~= nil and not allowed[value] then
      raise(("%s: recipe.%s must be %s, got %s"):format(name, field, choice_names[field], shown(value)))
    end
  end
end

--- A copy of a recipe with the fields that `changes` has of one; those of an operand one by one.
function plan.override(name, recipe, changes)
  local changed = {}
  for field, value in pairs(recipe) do changed[field] = value end
  for field, value in pairs(changes) do
    if choices[field] then
      changed[field] = value
    elseif plan.is_recipe_field(field) then
      if type(value) ~= "table" then
        raise(("%s: option %s must be a table, got %s"):format(name, field, shown(value)))
      end
      local operand = {}
      for key, old in pairs(type(recipe[field]) == "table" and recipe[field] or {}) do operand[key] = old end
      for key, new in pairs(value) do operand[key] = new end
      changed[field] = operand
    end
  end
  return changed
end

--- The block length of scale "block": the smallest power of two from 64 to 4096 that is at least `features`, or 4096.
function plan.block_length(features)
  local length = 64
  while length < features and length < 4096 do length = length * 2 end
  return length
end

local function planned(operand, features)
  local blocksize
  if operand.scale == "block" then
    blocksize = plan.block_length(features)
  elseif operand.scale == "row" then
    blocksize = math.max(features, 1)
  elseif operand.scale ~= "tensor" then
    blocksize = operand.scale
  end
  return {format = operand.format, scale = operand.scale, blocksize = blocksize}
end

-- Codes have a scale for the whole operand, or for each row where rows are not what is summed over. The product for dx
-- sums over W's rows, the one for dW over the rows of x and dy.
local function native_products(recipe)
  local native = true
  for _, operand in ipairs(operands) do native = native and hardware[recipe[operand].format] or false end
  local function scaled_by(operand, ...)
    for _, scale in ipairs {...} do
      if recipe[operand].scale == scale then return native end
    end
    return false
  end
  local forward = scaled_by("input", "tensor", "row") and scaled_by("weight", "tensor", "row")
  return {
    forward = forward,
    input_grad = forward and scaled_by("weight", "tensor") and scaled_by("grad_output", "tensor", "row"),
    weight_grad = forward and scaled_by("input", "tensor") and scaled_by("grad_output", "tensor"),
  }
end

--- How one operand of a recipe, for rows of `features`, is quantized: an operand of a plan.
-- @param where what to call it in errors
function plan.operand(where, operand, features)
  check_operand(where, operand)
  return planned(operand, features)
end

--- The plan of a recipe.
-- @param name of the function to name in errors
-- @param in_features, out_features of the layer
function plan.make(name, recipe, in_features, out_features)
  check(name, recipe)
  return {
    input = planned(recipe.input, in_features),
    weight = planned(recipe.weight, in_features),
    grad_output = planned(recipe.grad_output, out_features),
    rounding = recipe.rounding == "stochastic" and "stochastic" or nil,
    quantized_weight_grad = recipe.weight_grad == "quantized",
    native = native_products(recipe),
  }
end

return plan

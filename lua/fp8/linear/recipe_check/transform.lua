--- What an operand's fields have to be that say what is done with it before it is quantized: transforms and their
-- signs, smoothed rows or columns.
local core = require "fp8.core"
local shown = require "fp8.linear.recipe_check.shown"

local raise = core.raise

local transform_check = {}

local drawn_signs = {random = true, step = true}
local sides = {row = true, column = true}
local hadamards = {[16] = true, [32] = true, [64] = true, [128] = true}

-- A list of 1 and -1, or else one of `others`.
local function check_signs(where, signs, length, others)
  if signs == nil or others and others[signs] then return end
  local right = type(signs) == "table" and #signs == length
  for i = 1, right and length or 0 do right = right and (signs[i] == 1 or signs[i] == -1) end
  if not right then
    local also = others and '"random", "step" or ' or ""
    raise(("%ssigns must be %sa list of %d times 1 or -1, got %s"):format(where, also, length, shown(signs)))
  end
end

--- Raises an error unless there is a Hadamard transform of this length, with these signs or nil.
function transform_check.alone(where, length, signs)
  if not hadamards[length] then
    raise(("%s: length must be 16, 32, 64 or 128, got %s"):format(where, shown(length)))
  end
  check_signs(where .. ": ", signs, length)
end

local function check_hadamard(where, operand)
  local length = operand.hadamard
  if length == nil then
    if operand.signs ~= nil then raise(where .. ".signs has no meaning without hadamard") end
    return
  end
  if not hadamards[length] then
    raise(("%s.hadamard must be 16, 32, 64 or 128, got %s"):format(where, shown(length)))
  end
  if operand.history ~= nil then raise(where .. ".hadamard has no meaning beside a history") end
  check_signs(where .. ".", operand.signs, length, drawn_signs)
end

local function check_smooth(where, operand)
  if operand.smooth == nil then return end
  if not sides[operand.smooth] then
    raise(('%s.smooth must be "row" or "column", got %s'):format(where, shown(operand.smooth)))
  end
  for _, field in ipairs {"hadamard", "across", "history"} do
    if operand[field] ~= nil then raise(("%s.smooth has no meaning beside %s"):format(where, field)) end
  end
end

local function check_across(where, operand)
  local across = operand.across
  if across == nil then return end
  if not hadamards[across] then
    raise(("%s.across must be 16, 32, 64 or 128, got %s"):format(where, shown(across)))
  end
  if operand.history ~= nil then raise(where .. ".across has no meaning beside a history") end
end

--- Raises an error that names the first wrong one of these fields of an operand, which errors call `where`.
function transform_check.check(where, operand)
  check_hadamard(where, operand)
  check_smooth(where, operand)
  check_across(where, operand)
end

-- What is transformed in an operand: "none" or what the transform is.
local function transform_text(operand)
  if type(operand) ~= "table" or not operand.hadamard then return "none" end
  local signs = operand.signs
  return ("hadamard = %d, signs = %s"):format(operand.hadamard,
    type(signs) == "table" and "{" .. table.concat(signs, ", ") .. "}" or tostring(signs))
end

--- Raises an error unless both operands of each product of a recipe are transformed alike: a transform cancels out of a
-- product that both have been through, along what it sums over.
-- @param products by name, a list of the operands that each may have of its own
function transform_check.check_products(where, recipe, products)
  for _, name in ipairs {"forward", "input_grad", "weight_grad"} do
    local own, pair = recipe[name], name == "forward" and {"input", "weight"} or products[name]
    local computed = own ~= "full" and not (name == "weight_grad" and own == nil)
    local first, second = recipe[pair[1]], recipe[pair[2]]
    if type(own) == "table" then
      first, second = own[pair[1]] == nil and first or own[pair[1]], own[pair[2]] == nil and second or own[pair[2]]
    end
    if computed and transform_text(first) ~= transform_text(second) then
      raise(("%s.%s: both operands of a product are transformed alike, got %s of %s and %s of %s"):format(where, name,
        transform_text(first), pair[1], transform_text(second), pair[2]))
    end
  end
end

return transform_check

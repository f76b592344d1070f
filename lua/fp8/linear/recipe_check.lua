--- What a recipe has to be like (recipes.lua), and what is wrong with one that isn't, by the name of the field.
local core = require "fp8.core"
local formats = require "fp8.linear.formats"
local is_whole = require "fp8.is_whole"
local later = require "fp8.later"

local raise = core.raise

local recipe_check = {}

local operands = {"input", "weight", "grad_output"}
-- The operands that a product may have of its own: y has those of the recipe.
local products = {forward = {}, input_grad = {"grad_output", "weight"}, weight_grad = {"grad_output", "input"}}
local operand_fields = {
  format = true, scale = true, scale_rounding = true, second_scale = true, headroom = true, constant_scale = true,
  hadamard = true, signs = true, history = true, rounding = true, range = true, candidates = true,
  largest_scale = true, smooth = true, across = true, from = true, mask = true,
}
local recipe_fields = {
  input = true, weight = true, grad_output = true, forward = true, input_grad = true, weight_grad = true,
  keep = true, rounding = true,
}
local roundings = {nearest = true, stochastic = true}
local accumulations = {fast = true, accurate = true}
local scale_names = {tensor = true, row = true, column = true, block = true}
local scale_roundings = {
  none = true, power_of_two = true, mx = true, ceil = true, even = true, rceil = true, e4m3 = true,
}
local second_scales = {none = true, tensor = true, row = true}
local drawn_signs = {random = true, step = true}
local sides = {row = true, column = true}
local range_fields = {root_mean_square = true, mean_magnitude = true}
local most_candidates = 8
local hadamards = {[16] = true, [32] = true, [64] = true, [128] = true}
local longest_history = 2^20
local accepted_scales = '"tensor", "row", "column", "block", a block length (a whole number of at least 1) or ' ..
  "{rows, columns}"

--- The fields of a recipe, and those of an operand: sets.
recipe_check.fields, recipe_check.operand_fields = recipe_fields, operand_fields

local function shown(value)
  return type(value) == "string" and ('"%s"'):format(value) or
    type(value) == "number" and tostring(value) or type(value)
end

-- Maps that have passed check_map, and the version of their contents then.
local checked_maps = setmetatable({}, {__mode = "k"})

local function check_map(map)
  local version = core.version(map)
  if checked_maps[map] == version then return end
  core.quantize(core.zeros({1}, {dtype = "f32", device = "cpu"}), core.quantizer {format = map}, "codes")
  checked_maps[map] = version
end

local function check_format(where, format)
  if formats.is_hardware(format) ~= nil then return end
  if not core.is_tensor(format) then
    local called = core.dtype_called(format)
    raise(("%s.format must be a map (a tensor of 256 values) or one of %s, got %s%s"):format(where,
      table.concat(formats.names(), ", "), shown(format),
      formats.is_hardware(called) and (", which is called %s here"):format(called) or ""))
  end
  local ok, message = pcall(check_map, format)
  if ok then return end
  raise(("%s.format: %s"):format(where, message:gsub("^.-quantize: ", ""):gsub("^.-version: argument 1: ", "")))
end

--- Raises an error that calls it `name` unless `scale` is one that recipes know.
function recipe_check.check_scale(name, scale)
  if scale_names[scale] or is_whole(scale, 1) then return end
  if type(scale) == "table" then
    local count = 0
    for _ in next, scale do count = count + 1 end
    local rows, columns = rawget(scale, 1), rawget(scale, 2)
    if count == 2 and is_whole(rows, 1) and is_whole(columns, 1) then return end
    raise(("%s must be %s, got a table of %d that is not two whole numbers of at least 1"):format(name, accepted_scales,
      count))
  end
  raise(("%s must be %s, got %s"):format(name, accepted_scales, shown(scale)))
end

local function check_scale_rounding(where, operand)
  local rounding = operand.scale_rounding
  if rounding == nil then return end
  if not scale_roundings[rounding] then
    raise(('%s.scale_rounding must be "none", "power_of_two", "mx", "ceil", "even", "rceil" or "e4m3", got %s'):format(
      where, shown(rounding)))
  end
end

local function check_second_scale(where, operand)
  local second, scale = operand.second_scale, operand.scale
  if second == nil then return end
  if not second_scales[second] then
    raise(('%s.second_scale must be "none", "tensor" or "row", got %s'):format(where, shown(second)))
  end
  if second == "none" then return end
  if operand.scale_rounding ~= "e4m3" then
    raise(('%s.second_scale is for scale_rounding = "e4m3", got %s'):format(where, shown(operand.scale_rounding)))
  end
  if second == "row" and scale ~= "row" and not (type(scale) == "table" and scale[1] == 1) then
    raise(('%s.second_scale: "row" is for a scale of {1, columns} or "row", got %s'):format(where, shown(scale)))
  end
end

local function check_positive(where, operand, field)
  local value = operand[field]
  if value == nil then return end
  if type(value) ~= "number" or not (value > 0 and value < 2^128) then
    raise(("%s.%s must be a number above 0 that float32 can hold, got %s"):format(where, field, shown(value)))
  end
  if operand.scale_rounding == "e4m3" then
    raise(('%s.%s has no meaning beside scale_rounding = "e4m3"'):format(where, field))
  end
  if operand.history ~= nil and field == "constant_scale" then
    raise(("%s.constant_scale has no meaning beside a history"):format(where))
  end
end

local function check_range(where, operand)
  local range = operand.range
  if range == nil then return end
  where = where .. ".range"
  if type(range) ~= "table" then
    raise(("%s must be a table {root_mean_square =, mean_magnitude =}, got %s"):format(where, shown(range)))
  end
  for field, value in pairs(range) do
    if not range_fields[field] then
      raise(("%s: unknown field %s%s"):format(where, tostring(field),
        later("fp8.nearest").hint(field, range_fields)))
    end
    if type(value) ~= "number" or not (math.abs(value) < 2^128) then
      raise(("%s.%s must be a number that float32 can hold, got %s"):format(where, field, shown(value)))
    end
  end
  if next(range) == nil then raise(where .. " must have root_mean_square, mean_magnitude or both, got neither") end
end

local function check_candidates(where, operand)
  local candidates = operand.candidates
  if candidates == nil then return end
  local right = type(candidates) == "table"
  local count = right and #candidates or 0
  for i, value in pairs(right and candidates or {}) do
    right = right and is_whole(i, 1) and i <= count and type(value) == "number" and value > 0 and value < 2^128
  end
  if not right or count < 1 or count > most_candidates then
    raise(("%s.candidates must be a list of 1 to %d numbers above 0, got %s"):format(where, most_candidates,
      shown(candidates)))
  end
end

local function check_largest_scale(where, operand)
  local largest = operand.largest_scale
  if largest == nil then return end
  if type(largest) ~= "number" or not (largest > 0 and largest <= 448) then
    raise(("%s.largest_scale must be a number above 0 and at most 448, got %s"):format(where, shown(largest)))
  end
  if operand.second_scale == nil or operand.second_scale == "none" then
    raise(where .. ".largest_scale has no meaning without second_scale")
  end
end

--- Raises an error unless scales can be fitted as an operand's fields say. They are found anew each time.
function recipe_check.check_fit(where, operand)
  check_range(where, operand)
  check_candidates(where, operand)
  check_largest_scale(where, operand)
  for _, field in ipairs {"range", "candidates"} do
    for _, other in ipairs {"constant_scale", "history"} do
      if operand[field] ~= nil and operand[other] ~= nil then
        raise(("%s.%s has no meaning beside %s"):format(where, field, other))
      end
    end
  end
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

-- What only operands of some products may have: see check_places.
local function check_of_products(where, operand)
  if operand.across ~= nil and not hadamards[operand.across] then
    raise(("%s.across must be 16, 32, 64 or 128, got %s"):format(where, shown(operand.across)))
  end
  if operand.across ~= nil and operand.history ~= nil then
    raise(where .. ".across has no meaning beside a history")
  end
  if operand.from ~= nil and operand.from ~= "forward" then
    raise(('%s.from must be "forward", got %s'):format(where, shown(operand.from)))
  end
  if operand.mask ~= nil and type(operand.mask) ~= "boolean" then
    raise(("%s.mask must be a boolean, got %s"):format(where, shown(operand.mask)))
  end
end

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
function recipe_check.check_transform(where, length, signs)
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

local function check_history(where, operand)
  local history = operand.history
  if history == nil then return end
  if not is_whole(history, 1) or history > longest_history then
    raise(("%s.history must be a whole number from 1 to %d, got %s"):format(where, longest_history, shown(history)))
  end
  if operand.scale ~= "tensor" then
    raise(('%s.history is for scale = "tensor", got %s'):format(where, shown(operand.scale)))
  end
  if operand.scale_rounding == "e4m3" then
    raise(('%s.history has no meaning beside scale_rounding = "e4m3"'):format(where))
  end
end

local function check_fields(where, value, fields, form)
  if type(value) ~= "table" then raise(("%s must be a table %s, got %s"):format(where, form, shown(value))) end
  for field in pairs(value) do
    if not fields[field] then
      raise(("%s: unknown field %s%s"):format(where, tostring(field), later("fp8.nearest").hint(field, fields)))
    end
  end
end

local function check_rounding(where, rounding)
  if rounding == nil or roundings[rounding] then return end
  raise(('%srounding must be "nearest" or "stochastic", got %s'):format(where, shown(rounding)))
end

-- An operand that a function of the script quantizes.
local function check_function(where, operand)
  for field in pairs(operand) do
    if field ~= "quantize" then
      raise(("%s.%s has no meaning beside quantize = a function, which sees to everything"):format(where,
        tostring(field)))
    end
  end
  if type(operand.quantize) ~= "function" then
    raise(("%s.quantize must be a function, got %s"):format(where, shown(operand.quantize)))
  end
end

--- Raises an error that names the first wrong field of an operand, which errors call `where`.
function recipe_check.check_operand(where, operand)
  if operand == "full" then return end
  if type(operand) == "table" and operand.quantize ~= nil then return check_function(where, operand) end
  check_fields(where, operand, operand_fields, '{format =, scale =} or "full"')
  check_format(where, operand.format)
  recipe_check.check_scale(where .. ".scale", operand.scale)
  check_scale_rounding(where, operand)
  check_second_scale(where, operand)
  check_positive(where, operand, "headroom")
  check_positive(where, operand, "constant_scale")
  recipe_check.check_fit(where, operand)
  check_hadamard(where, operand)
  check_smooth(where, operand)
  check_of_products(where, operand)
  check_history(where, operand)
  check_rounding(where .. ".", operand.rounding)
end

-- A product: "full", nil, or its own operands and how it is accumulated.
local function check_product(where, name, product)
  if product == nil or product == "full" or name == "weight_grad" and product == "quantized" then return end
  local fields, forms = {accumulate = true}, {}
  for i, operand in ipairs(products[name]) do fields[operand], forms[i] = true, operand .. " =" end
  forms[#forms + 1] = "accumulate ="
  check_fields(where, product, fields, ('{%s} or "full"%s'):format(table.concat(forms, ", "),
    name == "weight_grad" and ' or "quantized"' or ""))
  for _, operand in ipairs(products[name]) do
    if product[operand] ~= nil then recipe_check.check_operand(where .. "." .. operand, product[operand]) end
  end
  local accumulate = product.accumulate
  if accumulate ~= nil and not accumulations[accumulate] then
    raise(('%s.accumulate must be "fast" or "accurate", got %s'):format(where, shown(accumulate)))
  end
end

--- Raises an error unless a recipe has such a field.
function recipe_check.check_field(where, field)
  if recipe_fields[field] then return end
  raise(("%s: unknown field %s%s"):format(where, tostring(field), later("fp8.nearest").hint(field, recipe_fields)))
end

-- What is transformed in an operand: "none" or what the transform is.
local function transform_text(operand)
  if type(operand) ~= "table" or not operand.hadamard then return "none" end
  local signs = operand.signs
  return ("hadamard = %d, signs = %s"):format(operand.hadamard,
    type(signs) == "table" and "{" .. table.concat(signs, ", ") .. "}" or tostring(signs))
end

-- A transform cancels out of a product that both its operands have been through, along what it sums over.
local function check_transforms(where, recipe)
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

-- Raises an error if an operand has a field that is for others.
local function check_place(where, operand, field, others)
  if type(operand) == "table" and operand[field] then
    raise(("%s.%s is for %s, not for this operand"):format(where, field, others))
  end
end

-- Some fields are for operands of some products alone.
local function check_places(prefix, recipe)
  for _, name in ipairs(operands) do
    check_place(prefix .. name, recipe[name], "from", "input_grad.weight and weight_grad.input")
    check_place(prefix .. name, recipe[name], "across", "operands of input_grad and weight_grad")
  end
  check_place(prefix .. "grad_output", recipe.grad_output, "mask", "input and weight")
  for _, product in ipairs {"input_grad", "weight_grad"} do
    for _, name in ipairs(products[product]) do
      local where = prefix .. product .. "." .. name
      local operand = type(recipe[product]) == "table" and recipe[product][name]
      check_place(where, operand, "mask", "input and weight of the recipe")
      if name == "grad_output" then
        check_place(where, operand, "from", "input_grad.weight and weight_grad.input")
      elseif type(operand) == "table" and operand.from and (recipe.forward == "full" or recipe[name] == "full") then
        raise(("%s.from has no meaning where %s is full in the forward product"):format(where, name))
      end
    end
  end
  for _, name in ipairs {"input", "weight"} do
    if recipe.forward == "full" and type(recipe[name]) == "table" and recipe[name].mask then
      raise(('%s%s.mask has no meaning beside forward = "full"'):format(prefix, name))
    end
  end
end

--- A copy of a recipe whose operands of x are smoothed by columns, where that goes.
function recipe_check.smoothed(recipe)
  local function smoothed(operand)
    if type(operand) ~= "table" or operand.format == nil then return operand end
    if operand.hadamard or operand.across or operand.history or operand.smooth then return operand end
    local copy = recipe_check.copied(operand)
    copy.smooth = "column"
    return copy
  end
  local copy = recipe_check.copied(recipe)
  copy.input = smoothed(copy.input)
  if type(copy.weight_grad) == "table" then copy.weight_grad.input = smoothed(copy.weight_grad.input) end
  return copy
end

--- Raises an error that names the first wrong field of an operand that stands alone, without a product.
function recipe_check.check_alone(where, operand)
  recipe_check.check_operand(where, operand)
  for _, field in ipairs {"from", "mask", "across"} do
    check_place(where, operand, field, "operands of a recipe's products")
  end
end

-- The format in which x is kept between the passes.
local function check_keep(where, recipe)
  local keep, own = recipe.keep, recipe.weight_grad
  if keep == nil then return end
  if type(keep) ~= "table" or keep.quantize ~= nil then
    raise(("%s.keep must be a table {format =, scale =}, got %s"):format(where,
      type(keep) == "table" and "a function" or shown(keep)))
  end
  recipe_check.check_operand(where .. ".keep", keep)
  for _, field in ipairs {"hadamard", "history", "from", "mask", "across", "smooth"} do
    if keep[field] ~= nil then raise(("%s.keep.%s has no meaning between the passes"):format(where, field)) end
  end
  local input = type(own) == "table" and own.input or recipe.input
  if not own or own == "full" or type(input) ~= "table" then return end
  if input.history then raise(where .. ".keep has no meaning where the input of weight_grad has a history") end
  if input.from then
    raise(where .. ".keep has no meaning where the input of weight_grad is made from the forward pass's")
  end
end

--- Raises an error that names the first wrong field of a recipe.
-- @param name of the function to name in errors
function recipe_check.check(name, recipe)
  if type(recipe) ~= "table" then raise(("%s: recipe must be a table, got %s"):format(name, shown(recipe))) end
  for field in pairs(recipe) do recipe_check.check_field(name .. ": recipe", field) end
  local prefix = name .. ": recipe."
  for _, operand in ipairs(operands) do recipe_check.check_operand(prefix .. operand, recipe[operand]) end
  for _, product in ipairs {"forward", "input_grad", "weight_grad"} do
    check_product(prefix .. product, product, recipe[product])
  end
  check_rounding(prefix, recipe.rounding)
  check_places(prefix, recipe)
  check_keep(name .. ": recipe", recipe)
  check_transforms(name .. ": recipe", recipe)
end

-- A copy of a table of fields with those of `changes`; those of both, operands, one by one if `depth` is more than 1.
local function merged(old, changes, depth)
  local result = {}
  for field, value in pairs(type(old) == "table" and old or {}) do result[field] = value end
  for field, value in pairs(changes) do
    local is_operand = depth > 1 and type(value) == "table" and value.quantize == nil
    result[field] = is_operand and merged(result[field], value, depth - 1) or value
  end
  return result
end

--- A copy of a recipe with tables of its own; the maps are the same.
function recipe_check.copied(value)
  if type(value) ~= "table" then return value end
  local copy = {}
  for key, part in pairs(value) do copy[key] = recipe_check.copied(part) end
  return copy
end

--- A copy of a recipe with the fields that `changes` has of one; those of an operand one by one.
function recipe_check.override(recipe, changes)
  local changed = merged(recipe, {}, 1)
  for field, value in pairs(changes) do
    if recipe_fields[field] then
      local is_product = products[field] ~= nil
      if type(value) == "table" and field ~= "rounding" then
        changed[field] = value.quantize ~= nil and value or merged(recipe[field], value, is_product and 2 or 1)
      else
        changed[field] = value
      end
    end
  end
  return changed
end

return recipe_check

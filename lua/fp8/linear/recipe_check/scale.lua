--- What an operand's fields of scales have to be: which blocks share one, how it is rounded, what it follows from.
local core = require "fp8.core"
local is_whole = require "fp8.is_whole"
local later = require "fp8.later"
local shown = require "fp8.linear.recipe_check.shown"

local raise = core.raise

local scale_check = {}

local scale_names = {tensor = true, row = true, column = true, block = true}
local scale_roundings = {
  none = true, power_of_two = true, mx = true, ceil = true, even = true, rceil = true, e4m3 = true,
}
local second_scales = {none = true, tensor = true, row = true}
local range_fields = {root_mean_square = true, mean_magnitude = true}
local most_candidates = 8
local longest_history = 2^20
local accepted_scales = '"tensor", "row", "column", "block", a block length (a whole number of at least 1) or ' ..
  "{rows, columns}"

--- Raises an error that calls it `name` unless `scale` is one that recipes know.
function scale_check.blocks(name, scale)
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
function scale_check.fit(where, operand)
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

--- Raises an error that names the first wrong field of an operand's scales, which errors call `where`.
function scale_check.check(where, operand)
  scale_check.blocks(where .. ".scale", operand.scale)
  check_scale_rounding(where, operand)
  check_second_scale(where, operand)
  check_positive(where, operand, "headroom")
  check_positive(where, operand, "constant_scale")
  scale_check.fit(where, operand)
  check_history(where, operand)
end

return scale_check

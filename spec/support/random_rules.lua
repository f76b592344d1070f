--- Random recipes in the reference's terms (spec/support/linear_check.lua): any fields together that a recipe may have.
local recipe_rules = require "spec.support.recipe_rules"

local formats = {"e4m3", "e4m3", "e5m2", "e2m1", "e3m2", "int4", "int8", "nf4", recipe_rules.e4m3}
local scale_roundings = {"none", "none", "power_of_two", "mx", "ceil", "even", "rceil", "e4m3"}
local large_scales = {"tensor", "tensor", "row", "column", "block", 7, 64, {128, 1}, {1, 128}, {128, 128}}

--- @param random as support.random gives it
--- @return a recipe in the reference's terms, which may be one that fp8 refuses
return function(random)
  local function pick(list) return list[random(#list)] end
  local function one_in(n) return random(n) == 1 end

  local function scale_along(direction)
    if one_in(2) then return pick(large_scales) end
    local length = pick {8, 16, 32}
    return pick {direction == "row" and {1, length} or {length, 1}, {16, 16}, {3, 5}}
  end

  -- Fields of the scale, of `of` and of others.
  local function add_scale_fields(of, scale, rounding)
    if rounding == "e4m3" then
      local in_rows = scale == "row" or type(scale) == "table" and scale[1] == 1
      of.second_scale = pick {"none", "tensor", in_rows and "row" or "tensor"}
      of.largest_scale = of.second_scale ~= "none" and one_in(3) and 256 or nil
    else
      of.headroom = one_in(6) and 4 / 3 or nil
      of.constant_scale = one_in(10) and 0.25 or nil
    end
    if of.constant_scale then return end
    of.range = one_in(6) and {root_mean_square = 2, mean_magnitude = 0.5} or nil
    of.candidates = one_in(6) and {1, 0.75, 0.5} or nil
  end

  local function operand(direction, of)
    if one_in(14) then return "full" end
    if one_in(25) then
      return {quantize = function(value) return value / 2 end, of_tensor = function(x) return x / 2 end}
    end
    local scale, rounding = scale_along(direction), pick(scale_roundings)
    add_scale_fields(of, scale, rounding)
    return {pick(formats), scale, rounding, of}
  end

  local function transform()
    if not one_in(4) then return {} end
    local signs = one_in(2) and {} or nil
    for i = 1, signs and 16 or 0 do signs[i] = random(2) * 2 - 3 end
    return {hadamard = 16, signs = signs}
  end

  -- An operand of several products; `more`: masks.
  local function usual(direction, transformed, more)
    return operand(direction, {
      hadamard = transformed.hadamard, signs = transformed.signs, mask = more and one_in(6) or nil,
      smooth = not transformed.hadamard and one_in(8) and pick {"row", "column"} or nil,
    })
  end

  -- The operands of one product, any of which may be missing.
  local function own(names, directions)
    local length, result = one_in(4) and 64 or nil, {}
    for i, name in ipairs(names) do
      if length or one_in(2) then
        local from = name ~= "grad_output" and not length and one_in(4) and "forward" or nil
        local smooth = not length and one_in(8) and pick {"row", "column"} or nil
        result[name] = operand(directions[i], {hadamard = length, from = from, smooth = smooth})
      end
    end
    return result
  end

  local forward = transform()
  local rules = {input = usual("row", forward, true), weight = usual("row", forward, true)}
  rules.grad_output = usual("row", one_in(2) and forward or {})
  rules.forward = one_in(10) and "full" or nil
  rules.input_grad = pick {"full", false, own({"grad_output", "weight"}, {"row", "column"})} or nil
  rules.weight_grad = pick {"full", "quantized", own({"grad_output", "input"}, {"column", "column"})}
  if one_in(8) then rules.keep = operand("row", {}) end
  return rules
end

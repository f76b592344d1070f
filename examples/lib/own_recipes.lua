--- Recipes that are made by hand of maps: what fp8.convert takes, by name.
local fp8 = require "fp8"

local own = {}

local integers = fp8.create_linear_map() -- 256 values at equal distances

local function by(format, scale) return {format = format, scale = scale} end

--- The baseline of Wortsman et al., "Stable and low-precision training for large-scale vision-language models" (2023):
-- 8-bit integers with one scale for each tensor, and all three products.
own.int8_tensorwise = {
  input = by(integers, "tensor"), weight = by(integers, "tensor"), grad_output = by(integers, "tensor"),
  weight_grad = "quantized", rounding = "nearest",
}

--- The same with a scale for each row of the gradients: that of one position in a text.
own.int8_gradient_rows = fp8.recipe(own.int8_tensorwise, {grad_output = {scale = "row"}})

-- E2M1 of the OCP Microscaling Formats (MX) specification, divided by its largest value, 6. Zeros fill up the map.
local function e2m1_map()
  local values = {}
  for _, value in ipairs {0.5, 1, 1.5, 2, 3, 4, 6} do
    values[#values + 1], values[#values + 2] = value / 6, -value / 6
  end
  while #values < 256 do values[#values + 1] = 0 end
  table.sort(values)
  return fp8.tensor(values, {dtype = "f32", device = "cpu"})
end

local e2m1 = e2m1_map()

-- Four-bit blocks of 16 along what each product sums over, their scales in float32.
local function in_blocks(rounding)
  local along_row, along_column = by(e2m1, {1, 16}), by(e2m1, {16, 1})
  local function gradient(scale) return {format = e2m1, scale = scale, rounding = rounding} end
  return {
    input = along_row, weight = along_row, grad_output = gradient {1, 16}, input_grad = {weight = along_column},
    weight_grad = {grad_output = gradient {16, 1}, input = along_column}, rounding = "nearest",
  }
end

--- E2M1 in blocks of 16, rounded to nearest; and with gradients that are rounded stochastically.
own.e2m1_blocks = in_blocks "nearest"
own.e2m1_blocks_stochastic = in_blocks "stochastic"

--- E2M1 with one scale for each tensor.
own.e2m1_tensor = {
  input = by(e2m1, "tensor"), weight = by(e2m1, "tensor"), grad_output = by(e2m1, "tensor"),
  weight_grad = "quantized", rounding = "nearest",
}

-- An operand of nvfp4 without its Hadamard transform, to nearest unless `rounding` says otherwise.
local function four_bits(rows, columns, rounding)
  return {
    format = "e2m1", scale = {rows, columns}, scale_rounding = "e4m3", second_scale = "tensor",
    rounding = rounding or "nearest",
  }
end

-- nvfp4 with other operands or products.
local function nvfp4_with(changes)
  local recipe = fp8.recipe "nvfp4"
  for field, value in pairs(changes) do recipe[field] = value end
  return recipe
end

--- nvfp4 without the Hadamard transform of the weight gradient's operands.
own.nvfp4_without_hadamard =
  nvfp4_with {weight_grad = {grad_output = four_bits(16, 1, "stochastic"), input = four_bits(16, 1)}}

--- nvfp4 with gradients that are rounded to nearest.
own.nvfp4_without_stochastic = fp8.recipe("nvfp4",
  {grad_output = {rounding = "nearest"}, weight_grad = {grad_output = {rounding = "nearest"}}})

--- nvfp4 with neither: the operands of all products rounded to nearest as they are.
own.nvfp4_nearest = nvfp4_with {
  grad_output = four_bits(1, 16), weight_grad = {grad_output = four_bits(16, 1), input = four_bits(16, 1)},
}

return own

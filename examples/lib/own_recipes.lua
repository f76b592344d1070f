--- Recipes that are made by hand of maps: what fp8.convert takes, by name.
local fp8 = require "fp8"

local own = {}

-- 8-bit integers: 256 values at equal distances.
local integers = fp8.create_linear_map()

local function by(format, scale) return {format = format, scale = scale} end

--- SwitchBack with 8-bit integers: rows of x and dy, W as a whole, and an unquantized weight gradient (Wortsman et al.,
-- "Stable and low-precision training for large-scale vision-language models", 2023, algorithm 1).
own.int8_switchback = {
  input = by(integers, "row"), weight = by(integers, "tensor"), grad_output = by(integers, "row"),
  weight_grad = "full", rounding = "nearest",
}

--- The baseline of the same paper: one scale for each tensor, and all three products.
own.int8_tensorwise = {
  input = by(integers, "tensor"), weight = by(integers, "tensor"), grad_output = by(integers, "tensor"),
  weight_grad = "quantized", rounding = "nearest",
}

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

return own

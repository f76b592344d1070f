--- Recipes: what a linear layer y = x·Wᵀ + b quantizes, to which format, with which scales. Plain tables: change a
-- copy, or add your own.
--
--   input, weight, grad_output = {format =, scale =}: of the operands x, W, and dy of dx = dy·W
--     format  a map of 256 values (fp8.create_map and its like), or the name of a hardware type: "e4m3" (largest value
--             448) or "e5m2" (57344)
--     scale   what shares one absmax: "tensor" (everything), "row", "block" (the smallest power of two from 64 to 4096
--             that is at least the number of features, else 4096), or a block length: that many elements, row-major
--   weight_grad  "full": dW = dyᵀ·x of unquantized dy and x; "quantized": of dy and x as the other products have them
--   rounding     "nearest" or "stochastic"
--
-- Sources: `mixed` is SwitchBack and `global` its tensor-wise baseline, from Wortsman et al., "Stable and low-precision
-- training for large-scale vision-language models" (2023), with the formats of bitsandbytes' LinearFP8Mixed and
-- LinearFP8Global. The native ones are the same with hardware formats and scales that FP8 tensor cores can apply.
local core = require "fp8.core"

local e4m3_map = core.create_map(true, 4, 3, 8)
local e5m2_map = core.create_map(true, 5, 2, 8)

return {
  mixed = {
    input = {format = e4m3_map, scale = "block"},
    weight = {format = e4m3_map, scale = "tensor"},
    grad_output = {format = e5m2_map, scale = "block"},
    weight_grad = "full",
    rounding = "nearest",
  },
  global = {
    input = {format = e4m3_map, scale = "tensor"},
    weight = {format = e4m3_map, scale = "tensor"},
    grad_output = {format = e5m2_map, scale = "tensor"},
    weight_grad = "quantized",
    rounding = "nearest",
  },
  mixed_native = {
    input = {format = "e4m3", scale = "row"},
    weight = {format = "e4m3", scale = "tensor"},
    grad_output = {format = "e5m2", scale = "row"},
    weight_grad = "full",
    rounding = "nearest",
  },
  global_native = {
    input = {format = "e4m3", scale = "tensor"},
    weight = {format = "e4m3", scale = "tensor"},
    grad_output = {format = "e5m2", scale = "tensor"},
    weight_grad = "quantized",
    rounding = "nearest",
  },
}

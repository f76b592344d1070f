--- Recipes: what a linear layer y = x·Wᵀ + b quantizes, to which format, with which scales. Plain tables: change a
-- copy, or add your own under a name that is free. Those here are read-only: one that has been changed in place is
-- refused wherever it is taken (published.lua). A name that is not here is an error, not nil, which would mean plain
-- products.
--
--   input, weight, grad_output = operands: x (rows, in), W (out, in), and dy (rows, out) of dx = dy·W
--   forward      nil; "full": y = x·Wᵀ of unquantized x and W; or {accumulate =}
--   input_grad   nil; "full": dx = dy·W of unquantized dy and W; or {grad_output =, weight =, accumulate =}: other
--                operands for it, any of which may be missing
--   weight_grad  "full": dW = dyᵀ·x of unquantized dy and x; "quantized": of dy and x as the other products have them;
--                or {grad_output =, input =, accumulate =}: other operands for it, any of which may be missing
--   rounding     "nearest" or "stochastic"
--
-- `accumulate` is how FP8 tensor cores add up: "fast", in some 14 bits, or "accurate", with a float32 sum every 128
-- terms; "fast" for y and "accurate" for the gradients unless it is given. Products of values have float32 sums.
--
-- An operand is "full", which leaves it as it is; {quantize = f}, where f is a function of the script; or a table:
--
--   format   a map of 256 values (fp8.create_map and its like), or the name of a hardware type: "e4m3" (largest value
--            448) or "e5m2" (57344)
--   scale    what shares one absmax: "tensor" (everything); "row"; "column"; {rows, columns}, a tile of the matrix,
--            those at its edges maybe short; a block length: that many elements, row-major, across row ends; "block":
--            such a block, of the smallest power of two from 64 to 4096 that is at least the number of columns, or 4096
--   scale_rounding  nil or "none": the scale is absmax / largest (a map's largest value counting as 1);
--            "power_of_two": that, rounded up to a power of two; "mx": that of the OCP Microscaling Formats (MX)
--            specification, 2^(⌊log2(absmax)⌋ - 8) for "e4m3" and - 15 for "e5m2", beyond which elements saturate.
--            src/core/formats/scale.h has the exact rules
--   rounding that of this operand: "nearest" or "stochastic"; the recipe's unless it is given
--   history  n: delayed scaling, for scale = "tensor". The scale comes from the largest absmax of the last n training
--            steps instead of that of this one (for the first step it is its own), and what is larger saturates. The
--            layer keeps the history: see nn/linear.lua. A step with a NaN or an infinity in the operand shows NaN and
--            does not enter the history: the next one is scaled as if it had not been. Evaluation (layer.training
--            false, or fp8.no_grad) takes its scale from the history and leaves it as it is
--
-- f(x, name) is called with the operand as a matrix, (rows, columns), and "input", "weight" or "grad_output", without
-- recording gradients: they pass straight through. It returns a tensor of the same shape, which is multiplied as the
-- dtype of x; of the weight it is asked anew in every call. What it does may be captured in a graph if the operations
-- may.
--
-- A product whose operands both have hardware formats runs on FP8 tensor cores where there are some and where its
-- scales can be applied to sums: "tensor"; "row" for what is summed over columns (x and W in y, dy in dx); "column" for
-- what is summed over rows (W in dx, dy and x in dW). On a GPU of compute capability 9.0 they may also have a scale for
-- every 128 terms, tiles of 128 along what is summed over and of 1 or 128 across, where x has 16 bits and all sizes are
-- multiples of 16. All others multiply the same values in the dtype of x.
local core = require "fp8.core"
local later = require "fp8.later"

local e4m3_map = core.create_map(true, 4, 3, 8)
local e5m2_map = core.create_map(true, 5, 2, 8)

local recipes = {}

--- SwitchBack, from Wortsman et al., "Stable and low-precision training for large-scale vision-language models" (2023),
-- with the formats of bitsandbytes' LinearFP8Mixed.
recipes.mixed = {
  input = {format = e4m3_map, scale = "block"},
  weight = {format = e4m3_map, scale = "tensor"},
  grad_output = {format = e5m2_map, scale = "block"},
  weight_grad = "full",
  rounding = "nearest",
}

--- The tensor-wise baseline of the same paper, with the formats of bitsandbytes' LinearFP8Global.
recipes.global = {
  input = {format = e4m3_map, scale = "tensor"},
  weight = {format = e4m3_map, scale = "tensor"},
  grad_output = {format = e5m2_map, scale = "tensor"},
  weight_grad = "quantized",
  rounding = "nearest",
}

--- `mixed` with hardware formats and scales that FP8 tensor cores can apply.
recipes.mixed_native = {
  input = {format = "e4m3", scale = "row"},
  weight = {format = "e4m3", scale = "tensor"},
  grad_output = {format = "e5m2", scale = "row"},
  weight_grad = "full",
  rounding = "nearest",
}

--- `global` with hardware formats.
recipes.global_native = {
  input = {format = "e4m3", scale = "tensor"},
  weight = {format = "e4m3", scale = "tensor"},
  grad_output = {format = "e5m2", scale = "tensor"},
  weight_grad = "quantized",
  rounding = "nearest",
}

--- torchao.float8's "tensorwise": dynamic scales of whole tensors, gradients in E5M2; the same as `global_native`.
recipes.tensorwise = recipes.global_native

local function row(scale) return {format = "e4m3", scale = scale, scale_rounding = "power_of_two"} end

--- torchao.float8's "rowwise": the operands of every product scaled along what it sums over, E4M3 throughout, with
-- scales that are powers of two.
recipes.rowwise = {
  input = row "row",
  weight = row "row",
  grad_output = row "row",
  input_grad = {weight = row "column"},
  weight_grad = {grad_output = row "column", input = row "column"},
  rounding = "nearest",
}

--- torchao.float8's "rowwise_with_gw_hp": W with one scale in dx = dy·W, and dW from unquantized operands.
recipes.rowwise_high_precision_weight_grad = {
  input = row "row",
  weight = row "row",
  grad_output = row "row",
  input_grad = {weight = row "tensor"},
  weight_grad = "full",
  rounding = "nearest",
}

local function tile(rows, columns) return {format = "e4m3", scale = {rows, columns}} end

--- DeepSeek-AI, "DeepSeek-V3 technical report" (2024), section 3.3: activations and gradients in tiles of 1 × 128
-- along what is summed over, weights in blocks of 128 × 128, E4M3 throughout. (There the backward pass makes the
-- 128 × 1 tiles of x from those of the forward pass; here they come from x itself.)
recipes.blocks = {
  input = tile(1, 128),
  weight = tile(128, 128),
  grad_output = tile(1, 128),
  weight_grad = {grad_output = tile(128, 1), input = tile(128, 1)},
  rounding = "nearest",
}

local function mx(format, along)
  return {format = format, scale = along == "rows" and {32, 1} or {1, 32}, scale_rounding = "mx"}
end

local function mx_recipe(grad_format)
  return {
    input = mx("e4m3", "columns"),
    weight = mx("e4m3", "columns"),
    grad_output = mx(grad_format, "columns"),
    input_grad = {weight = mx("e4m3", "rows")},
    weight_grad = {grad_output = mx(grad_format, "rows"), input = mx("e4m3", "rows")},
    rounding = "nearest",
  }
end

--- MXFP8 of the OCP Microscaling Formats (MX) specification, version 1.0 (2023), for training as in Rouhani et al.,
-- "Microscaling data formats for deep learning" (2023): blocks of 32 along what each product sums over, with an E8M0
-- scale; E4M3 throughout.
--   fp8.recipes.mx.weight.scale_rounding --> "mx"
recipes.mx = mx_recipe "e4m3"

--- The same with gradients in E5M2.
recipes.mx_e5m2_grad = mx_recipe "e5m2"

--- NVIDIA Transformer Engine's DelayedScaling recipe as it comes: the "HYBRID" format (E4M3, gradients in E5M2),
-- scales from the largest absmax of the last 1024 steps. See Micikevicius et al., "FP8 formats for deep learning"
-- (2022).
recipes.delayed = {
  input = {format = "e4m3", scale = "tensor", history = 1024},
  weight = {format = "e4m3", scale = "tensor", history = 1024},
  grad_output = {format = "e5m2", scale = "tensor", history = 1024},
  weight_grad = "quantized",
  rounding = "nearest",
}

return setmetatable(recipes, {
  __index = function(_, name)
    if type(name) ~= "string" then return end
    core.raise(("fp8.recipes: there is no recipe '%s'%s"):format(name, later("fp8.nearest").hint(name, recipes)))
  end,
  __tostring = function() return later "fp8.help".contents "fp8.recipes." end,
})

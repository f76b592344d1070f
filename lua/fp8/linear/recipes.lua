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
--   keep         nil, or an operand without hadamard, history or function: x is kept between the passes in its codes
--                and scales, and dW is that of their values. Else what dW takes is kept: codes, one byte an element,
--                where FP8 tensor cores multiply those; x itself for "full", `mixed` say, which costs nothing where
--                others keep it, too; and where values are multiplied, the values of a small x or x itself
--   rounding     "nearest" or "stochastic" (fp8.quantize_blockwise)
--
-- `accumulate` is how FP8 tensor cores add up: "fast", in some 14 bits, or "accurate", with a float32 sum every 128
-- terms; "fast" for y and "accurate" for the gradients unless it is given. Products of values have float32 sums.
--
-- An operand is "full", which leaves it as it is; {quantize = f}, where f is a function of the script; or a table:
--
--   format   a map of 256 values (fp8.create_map and its like), or the name of a format in fp8.formats: "e4m3", "e5m2",
--            which are hardware types, "e2m1", "e2m3", "e3m2", "int8", "int4", "nf4"
--   scale    what shares one absmax: "tensor" (everything); "row"; "column"; {rows, columns}, a tile of the matrix,
--            those at its edges maybe short; a block length: that many elements, row-major, across row ends; "block":
--            such a block, of the smallest power of two from 64 to 4096 that is at least the number of columns, or 4096
--   scale_rounding  nil or "none": the scale is absmax / largest (a map's largest value counting as 1);
--            "power_of_two": that, rounded up to a power of two of at least 2^-126, and 0 for 0; "rceil": NVIDIA's rule
--            for MXFP8, the same but at least 2^-127, for 0 too; "mx": that of the OCP Microscaling Formats (MX)
--            specification, 2^(⌊log2(absmax)⌋ - e), where 2^e is the largest power of two of the format ("e4m3": 8,
--            "e5m2": 15, "e2m1" and "e2m3": 2, "e3m2": 4, "int8": 6, "int4": 2, others: 0), beyond which elements
--            saturate; "ceil": ⌈log2(absmax)⌉ instead; "even": that of absmax rounded to the format's mantissa bits;
--            "e4m3": absmax / largest rounded to E4M3, as NVFP4 has it. src/core/formats/scale.h has the exact rules
--   second_scale  above scales in "e4m3": "tensor": a float32 one for all of the operand, from its absmax; "row": one
--            for each row, for scales of parts of rows; nil or "none"
--   largest_scale  beside a second scale: what the largest of the scales in "e4m3" becomes, 448 unless it is given;
--            with less there is room for candidates
--   headroom a number with which absmax is multiplied first: more than 1 leaves room (2 is Transformer Engine's margin
--            = 1), less lets the largest elements saturate
--   range    {root_mean_square = a, mean_magnitude = b}, one of which may be missing: in place of the absmax counts
--            a · √(mean of x²) + b · (mean of |x|) over the block, if that is above 0, and what is larger saturates
--   candidates  a list of up to 8 numbers: the absmax is multiplied with each of them, and the scale is the one that
--            leaves the least Σ (x - value)² in the block when it is rounded to nearest, the first of those that are
--            equal. With "e4m3", elements are multiplied with 1 / scale then. src/core/formats/fit.h has the
--            exact rules
--   constant_scale  a number that codes are multiplied with, whatever the absmax: only a NaN or an infinity
--            changes it
--   hadamard 16, 32, 64 or 128: the operand is first transformed in groups of so many elements along what the
--            product sums over, x · diag(s) · H / √n with the Hadamard matrix H, and rounded to its dtype; what whole
--            groups leave of a row or column stays as it is. Both operands of a product are transformed alike, which
--            leaves it what it would be without rounding. Such a product multiplies values
--   signs    s: a list of 1 and -1; "random": drawn once and for all; "step": drawn anew each time that the product is
--            computed; nil: 1
--   across   16, 32, 64 or 128, of operands of dx and dW alone: the same transform along the other dimension, without
--            signs; the product is transformed back
--   smooth   "column" or "row": each of these is divided by a power of two, that of its absmax or the next larger one,
--            and values are multiplied with it again: outliers of one column cost the others no precision. Such a
--            product multiplies values
--   from     "forward", of input_grad.weight and weight_grad.input alone: the operand is made from the values that y's
--            product had of W or x instead of from these. Where y's operands are transformed, so is this one, and the
--            product is transformed back
--   mask     true, of `input` and `weight` alone: elements that y's product had cut off at the format's range, or at
--            the end of a map, get no gradient: dx, or dW, is 0 there (before it is transformed back, if y's operands
--            are transformed). Such a product multiplies values
--   rounding that of this operand: "nearest" or "stochastic"; the recipe's unless it is given
--   history  n: delayed scaling, for scale = "tensor". The scale comes from the largest absmax of the last n training
--            steps instead of that of this one (for the first step it is its own), and what is larger saturates. The
--            layer keeps the history: see nn/linear.lua. A step with a NaN or an infinity in the operand shows NaN and
--            does not enter the history: the next one is scaled as if it had not been. Evaluation (layer.training
--            false, or fp8.no_grad) takes its scale from the history and leaves it as it is
--
-- f(x, name) is called with the operand as a matrix, (rows, columns), and "input", "weight" or "grad_output", without
-- recording gradients: they pass straight through. It returns a tensor of the same shape, which is multiplied as the
-- dtype of x. Of the weight it is asked anew in every call, of x once: where dW takes the same function, the values are
-- kept for it. What it does may be captured in a graph if the operations may.
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

local function tile(rows, columns, scale_rounding)
  return {format = "e4m3", scale = {rows, columns}, scale_rounding = scale_rounding}
end

--- DeepSeek-AI, "DeepSeek-V3 technical report" (2024), section 3.3: activations and gradients in tiles of 1 × 128
-- along what is summed over, weights in blocks of 128 × 128, E4M3 throughout. (There the backward pass makes the
-- 128 × 1 tiles of x from those of the forward pass; here they come from x itself, which blocks_requantized changes.)
recipes.blocks = {
  input = tile(1, 128),
  weight = tile(128, 128),
  grad_output = tile(1, 128),
  weight_grad = {grad_output = tile(128, 1), input = tile(128, 1)},
  rounding = "nearest",
}

local function of_forward(operand)
  operand.from = "forward"
  return operand
end

--- The same with the backward pass's tiles of x made from the forward pass's codes, as in section 3.3.3 there: nothing
-- but these has to be kept. (There the tiles of some layers have scales that are powers of two, so that this costs no
-- second error.)
recipes.blocks_requantized = {
  input = tile(1, 128),
  weight = tile(128, 128),
  grad_output = tile(1, 128),
  weight_grad = {grad_output = tile(128, 1), input = of_forward(tile(128, 1))},
  rounding = "nearest",
}

local function mx(format, along, scale_rounding)
  return {format = format, scale = along == "rows" and {32, 1} or {1, 32}, scale_rounding = scale_rounding or "mx"}
end

local function mx_recipe(grad_format, scale_rounding, usual)
  local format = usual or "e4m3"
  return {
    input = mx(format, "columns", scale_rounding),
    weight = mx(format, "columns", scale_rounding),
    grad_output = mx(grad_format, "columns", scale_rounding),
    input_grad = {weight = mx(format, "rows", scale_rounding)},
    weight_grad = {grad_output = mx(grad_format, "rows", scale_rounding), input = mx(format, "rows", scale_rounding)},
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

--- The same with NVIDIA's rule for scales, "rceil", which lets nothing saturate: Transformer Engine's MXFP8BlockScaling
-- recipe as it comes. (There a NaN in a block stays alone.)
recipes.mxfp8 = mx_recipe("e4m3", "rceil")

--- MXFP6 in E3M2, of the same specification and paper: weights, activations and gradients in 6 bits.
recipes.mxfp6 = mx_recipe("e3m2", "mx", "e3m2")

--- NVIDIA Transformer Engine's Float8BlockScaling recipe: that of DeepSeek-V3 with scales that are powers of two.
recipes.float8_blocks = {
  input = tile(1, 128, "power_of_two"),
  weight = tile(128, 128, "power_of_two"),
  grad_output = tile(1, 128, "power_of_two"),
  weight_grad = {grad_output = tile(128, 1, "power_of_two"), input = tile(128, 1, "power_of_two")},
  rounding = "nearest",
}

local function nvfp4(rows, columns, rounding, signs)
  return {
    format = "e2m1", scale = {rows, columns}, scale_rounding = "e4m3", second_scale = "tensor", rounding = rounding,
    hadamard = signs and 16, signs = signs,
  }
end

-- Transformer Engine's: bit i of 0xD7E8 set.
local nvfp4_signs = {1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1}

--- NVFP4 as NVIDIA Transformer Engine's NVFP4BlockScaling recipe has it, from "Pretraining large language models with
-- NVFP4" (NVIDIA, 2025): E2M1 in blocks of 16, weights in 16 × 16, with E4M3 scales and one of float32 above; a
-- Hadamard transform of the operands of dW; gradients rounded stochastically. The same codes and scales as there, bit
-- for bit. (There a stochastic rounding has 8 random bits, here 16 and more; a NaN becomes 6 there; and the paper
-- leaves the first and last layers in 16 bits, which is for the script to do. Here values are rounded to the dtype of x
-- before they are multiplied.)
recipes.nvfp4 = {
  input = nvfp4(1, 16),
  weight = nvfp4(16, 16),
  grad_output = nvfp4(1, 16, "stochastic"),
  weight_grad = {grad_output = nvfp4(16, 1, "stochastic", nvfp4_signs), input = nvfp4(16, 1, nil, nvfp4_signs)},
  rounding = "nearest",
}

local function four_over_six(operand)
  operand.candidates, operand.largest_scale = {1, 1.5}, 256
  return operand
end

--- Four over six: Cook et al., "Four over six: more accurate NVFP4 quantization with adaptive block scaling" (2025).
-- NVFP4 where the largest value of each block becomes 6 or 4, whichever leaves the smaller squared error; the largest
-- scale is 256 instead of 448, so that there is room for both. (There the choice for gradients looks at what stochastic
-- rounding gave; here at the nearest values. Elements are multiplied with 1 / scale, which may decide ties otherwise.)
recipes.nvfp4_four_over_six = {
  input = four_over_six(nvfp4(1, 16)),
  weight = four_over_six(nvfp4(16, 16)),
  grad_output = four_over_six(nvfp4(1, 16, "stochastic")),
  weight_grad = {
    grad_output = four_over_six(nvfp4(16, 1, "stochastic", nvfp4_signs)),
    input = four_over_six(nvfp4(16, 1, nil, nvfp4_signs)),
  },
  rounding = "nearest",
}

local function mxfp4(along)
  local operand = mx("e2m1", along)
  operand.headroom, operand.hadamard, operand.signs = 4 / 3, 64, "step"
  return operand
end

--- Tseng et al., "Training LLMs with MXFP4" (2025): the gradients' products in MXFP4 after a Hadamard transform with
-- random signs, rounded stochastically and scaled so that nothing saturates; the forward pass in full. (There elements
-- are multiplied with 3/4 below a scale from absmax, and products with 16/9; here the scale is that of 4/3 absmax.)
recipes.mxfp4 = {
  input = "full",
  weight = "full",
  grad_output = "full",
  input_grad = {grad_output = mxfp4 "columns", weight = mxfp4 "rows"},
  weight_grad = {grad_output = mxfp4 "rows", input = mxfp4 "rows"},
  rounding = "stochastic",
}

-- 2.92247856 · the root mean square is where a normal distribution is best cut off for E2M1; 2/3 of that because "mx"
-- makes a scale of an absmax that is 4 to 8 of it, and there 2.92… / 6 is rounded down to a power of two.
local function quest()
  return {
    format = "e2m1", scale = {1, 32}, scale_rounding = "mx", range = {root_mean_square = 2.92247856 * 2 / 3},
    hadamard = 32, mask = true, rounding = "nearest",
  }
end

local function quartet(along, from)
  local operand = mx("e2m1", along)
  operand.headroom, operand.hadamard, operand.signs, operand.from = 4 / 3, 32, "step", from
  return operand
end

--- Castro et al., "Quartet: native FP4 training can be optimal for large language models" (2025): all products in
-- MXFP4. Forward after a Hadamard transform, with scales fitted to the root mean square (QuEST) and no gradient where
-- that cuts off; backward of the forward pass's values, after another transform with random signs, rounded
-- stochastically and scaled so that nothing saturates. (There elements are multiplied with 3/4 below a scale from
-- absmax, and products with 16/9; here the scale is that of 4/3 absmax. Its program takes the mean out of the root
-- mean square, and has the same signs in both backward products.)
recipes.quartet = {
  input = quest(),
  weight = quest(),
  grad_output = quartet "columns",
  input_grad = {weight = quartet("rows", "forward")},
  weight_grad = {grad_output = quartet "rows", input = quartet("rows", "forward")},
  rounding = "stochastic",
}

-- Statistics-aware weight binning for 4 bits: Choi et al., "Accurate and efficient 2-bit quantized neural networks"
-- (2019), with the numbers of Chmiel et al.
local function int4()
  return {format = "int4", scale = "tensor", range = {root_mean_square = 12.1, mean_magnitude = -12.2}}
end

--- LUQ: Chmiel et al., "Accurate neural training with 4-bit matrix multiplications at standard formats" (2021).
-- Weights and activations as 4-bit integers, cut off where their statistics say; gradients as 0 and seven powers of
-- two below their absmax, with a sign, rounded stochastically, what underflows, too. (There activations that are never
-- negative have no sign, and several draws may be averaged for dW.)
recipes.luq = {
  input = int4(),
  weight = int4(),
  grad_output = {format = core.create_float_map(3, 0), scale = "tensor", rounding = "stochastic"},
  weight_grad = "quantized",
  rounding = "nearest",
}

local function halo(format)
  local function operand(field)
    local made = {format = format, scale = "tensor"}
    if field then made[field] = 128 end
    return made
  end
  return {
    input = operand "hadamard",
    weight = operand "hadamard",
    grad_output = operand(),
    input_grad = {grad_output = operand "across", weight = operand()},
    weight_grad = {grad_output = operand(), input = operand()},
    rounding = "nearest",
  }
end

--- HALO at level 2: Ashkboos et al., "HALO: Hadamard-assisted lower-precision optimization for LLMs" (2025). One scale
-- for each operand; a Hadamard transform of x and W in y, and of dy across the rows in dx. (There transforms span whole
-- dimensions, here groups of 128; FP8 runs at level 1, which leaves the one across out, INT8 at level 2.)
recipes.halo = halo "e4m3"

--- The same with 8-bit integers.
recipes.halo_int8 = halo "int8"

local function int8(scale) return {format = "int8", scale = scale} end

--- SwitchBack in its first form, with 8-bit integers: Wortsman et al. (2023), algorithm 1.
recipes.int8_switchback = {
  input = int8 "row",
  weight = int8 "tensor",
  grad_output = int8 "row",
  weight_grad = "full",
  rounding = "nearest",
}

local function constant(format) return {format = format, scale = "tensor", constant_scale = 1} end

--- Casts without scales, for networks whose activations, weights and gradients are about 1 by construction: Blake et
-- al., "Unit scaling: out-of-the-box low-precision training" (2023).
recipes.unit = {
  input = constant "e4m3",
  weight = constant "e4m3",
  grad_output = constant "e5m2",
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

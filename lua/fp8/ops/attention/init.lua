--- Attention: softmax(scale · q·kᵀ + mask)·v, as compute.lua computes it.
local autograd = require "fp8.autograd"
local compute = require "fp8.ops.attention.compute"
local computable = require "fp8.computable"
local core = require "fp8.core"
local mask = require "fp8.ops.attention.mask"
local rules = require "fp8.ops.attention.rule"
local text = require("fp8.shapes").text

local needs_grad, raise, shape_of = autograd.needs_grad, core.raise, core.shape

local known_options = rules.options {enable_gqa = "boolean"}

local operation = {
  name = "attention",
  backward = function(node, grad)
    local inputs = node.inputs
    return {compute.backward(grad, node.saved, node.rule, inputs[1], inputs[2], inputs[3], inputs[4])}
  end,
}

-- Returns the number of features, and how many heads of q share one of k and v.
local function check_operands(q, k, v, shares_heads)
  for i = 1, 3 do
    local x = i == 1 and q or i == 2 and k or v
    if not core.is_tensor(x) then
      raise(("attention: %s must be a tensor, got %s"):format(("qkv"):sub(i, i), type(x)))
    end
  end
  local a, b, c = shape_of(q), shape_of(k), shape_of(v)
  local rank = #a
  local fits = rank >= 2 and #b == rank and #c == rank and a[rank] == b[rank] and a[rank] > 0 and
    b[rank - 1] == c[rank - 1]
  local group = 1
  for i = 1, rank - 2 do
    local shared = fits and shares_heads and i == rank - 2 and b[i] > 0 and a[i] % b[i] == 0
    if shared then group = a[i] / b[i] end
    fits = fits and (a[i] == b[i] or shared) and b[i] == c[i]
  end
  if not fits then
    raise(("attention: q (…, queries, features), k (…, keys, features) and v (…, keys, values) are needed%s, got %s" ..
      ", %s and %s"):format(shares_heads and ", the heads of q a multiple of those of k and v" or "", text(a), text(b),
      text(c)))
  end
  local dtype = core.dtype(q)
  if not computable[dtype] or core.dtype(k) ~= dtype or core.dtype(v) ~= dtype then
    raise(("attention: q, k and v must be f32, f16 or bf16, all the same, got %s, %s and %s"):format(dtype,
      core.dtype(k), core.dtype(v)))
  end
  return a[rank], group
end

local function check_causal(rule, queries, keys)
  if rule.causal and queries > keys then
    raise(("attention: causal: there may be no more queries than keys, got %d and %d"):format(queries, keys))
  end
end

--- softmax(scale · q·kᵀ + mask)·v over the last two dimensions: Vaswani et al., "Attention is all you need" (2017);
-- PyTorch's scaled_dot_product_attention. For the backward pass it keeps q, k and v, and the probabilities or, of the
-- fused kernel, y. The fused kernel takes four dimensions without dropout, and a mask that gets no gradient: on the CPU
-- from 16 features on, on a GPU f16 and bf16, and 32, 64 or 128 features.
--
-- Causal: query i sees keys up to i + keys - queries, so that the last query sees all of them; no more queries than
-- keys. With as many of both position i sees positions up to i, as with PyTorch's is_causal; where earlier keys come
-- from a cache this is what is wanted, while PyTorch has query i see keys up to i there.
--
-- A mask is a tensor that broadcasts to (…, queries, keys): u8, whose ones say that a query sees a key, as PyTorch's
-- boolean ones; or f32, f16 or bf16, which is added to the scores, and gets a gradient. It holds beside causal. A query
-- that sees no key at all gets zeros, and gives no gradient, as PyTorch has it from 2.5 on.
--   fp8.attention(fp8.ones(1, 2), fp8.ones(3, 2), fp8.tensor {{1}, {2}, {6}}) --> {{3}}
--   fp8.attention(fp8.ones(1, 2), fp8.ones(2, 2), fp8.tensor {{1}, {2}}, {mask = fp8.tensor {0, -1e9}}) --> {{1}}
-- @param q (…, queries, features), f32, f16 or bf16: (batch, heads, positions, features) as a rule
-- @param k (…, keys, features), v (…, keys, values): of one dtype with q, and its leading dimensions
-- @param options {causal = false, mask =, scale = 1 / √features, dropout = the probability with which probabilities
--   become 0, enable_gqa = whether k and v may have fewer heads (the third dimension from the end) than q, each for as
--   many neighbouring heads of q: Ainslie et al., "GQA" (2023); false, recipe = {q =, k =, v =, probabilities =}:
--   operands as in fp8.recipes, to which these are quantized before they are multiplied (recipe.lua); q, k and v cost a
--   pass over each, but there is no fused kernel for quantized probabilities: all scores are in memory then}
--   local recipe = {v = {format = "int4", scale = "tensor", constant_scale = 1}}
--   fp8.attention(fp8.ones(1, 2), fp8.ones(2, 2), fp8.tensor {{1.1}, {2.1}}, {recipe = recipe}) --> {{1.5}}
-- @return (…, queries, values)
local function attention(q, k, v, options)
  local features, group = check_operands(q, k, v, type(options) == "table" and options.enable_gqa == true)
  local rule = rules.read("attention", options, known_options, features)
  rule.group = group
  check_causal(rule, core.size(q, -2), core.size(k, -2))
  if rule.mask ~= nil then
    local scores = shape_of(q)
    scores[#scores] = core.size(k, -2)
    mask.check("attention", "mask", rule.mask, scores, core.device(q))
  end
  local saved, y = compute.forward(q, k, v, rule)
  if needs_grad(q, k, v) or needs_grad(rule.mask) then
    rules.remember(y, operation, {q, k, v, rule.mask or false}, saved, rule)
  else
    rules.free_all(saved)
  end
  return y
end

return {attention = attention, self_attention = require "fp8.ops.attention.self_attention"}

--- Attention: softmax(scale · q·kᵀ + mask)·v, as compute.lua computes it.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local check_options = require "fp8.check_options"
local computable = require "fp8.computable"
local compute = require "fp8.ops.attention.compute"
local is_whole = require "fp8.is_whole"
local mask = require "fp8.ops.attention.mask"
local shapes = require "fp8.shapes"

local needs_grad, record = autograd.needs_grad, autograd.record
local free, shape_of, select, transpose, view = core.free, core.shape, core.select, core.transpose, core.view
local raise, text = core.raise, shapes.text
local backward, forward = compute.backward, compute.forward

local attention = {}

local packed_options = {causal = "boolean", scale = "number", dropout = "number", mask = true}
local known_options = {enable_gqa = "boolean"}
for name, kind in pairs(packed_options) do known_options[name] = kind end

-- The rule (compute.lua) that options say, checked.
local function read_options(name, options, known, features)
  options = check_options(name, options, known)
  local scale, dropout = options.scale or 1 / math.sqrt(features), options.dropout or 0
  if not (scale > -math.huge and scale < math.huge) then
    raise(("%s: option scale must be finite, got %s"):format(name, scale))
  end
  if not (dropout >= 0 and dropout < 1) then
    raise(("%s: option dropout must be at least 0 and below 1, got %s"):format(name, dropout))
  end
  return {causal = options.causal or false, scale = scale, dropout = dropout, mask = options.mask, group = 1}
end

local function remember(y, operation, inputs, saved, rule)
  local node = record(y, operation, inputs, saved)
  node.rule, node.owned = rule, {unpack(saved)}
  return node
end

local function free_all(list)
  for _, tensor in ipairs(list) do free(tensor) end
end

-- Frees what core.contiguous has made of x, where that is a copy.
local function free_copy(copy, x)
  if copy ~= x then free(copy) end
end

local separate = {
  name = "attention",
  backward = function(node, grad)
    local inputs = node.inputs
    return {backward(grad, node.saved, node.rule, inputs[1], inputs[2], inputs[3], inputs[4])}
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
-- fused kernel, y. The fused kernel takes four dimensions without mask and dropout: on the CPU from 16 features on, on
-- a GPU f16 and bf16, and 32, 64 or 128 features.
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
--   many neighbouring heads of q: Ainslie et al., "GQA" (2023); false}
-- @return (…, queries, values)
function attention.attention(q, k, v, options)
  local features, group = check_operands(q, k, v, type(options) == "table" and options.enable_gqa == true)
  local rule = read_options("attention", options, known_options, features)
  rule.group = group
  check_causal(rule, core.size(q, -2), core.size(k, -2))
  if rule.mask ~= nil then
    local scores = shape_of(q)
    scores[#scores] = core.size(k, -2)
    mask.check("attention", "mask", rule.mask, scores, core.device(q))
  end
  local saved, y = forward(q, k, v, rule)
  if needs_grad(q, k, v) or needs_grad(rule.mask) then
    remember(y, separate, {q, k, v, rule.mask or false}, saved, rule)
  else
    free_all(saved)
  end
  return y
end

-- q, k or v, the number `part` of 1 to 3, in x (batch, positions, 3 · features), as (batch, heads, positions, features
-- of a head): a view.
local function heads_of(x, part, shape)
  local all = view(x, shape)
  local chosen = select(all, 3, part)
  local heads = transpose(chosen, 2, 3)
  free(all)
  free(chosen)
  return heads
end

local packed = {
  name = "self_attention",
  backward = function(node, grad)
    local shape = node.heads_shape
    local batch, positions, heads, features = shape[1], shape[2], shape[4], shape[5]
    local joined = core.contiguous(grad)
    local split = view(joined, {batch, positions, heads, features})
    local dy = transpose(split, 2, 3)
    local whole = core.empty(node.input_shape, {dtype = node.dtype, device = core.device(grad)})
    local places = {heads_of(whole, 1, shape), heads_of(whole, 2, shape), heads_of(whole, 3, shape)}
    local grad_mask
    if node.rule.fused then
      compute.fused_backward(dy, node.saved, node.rule, unpack(places))
    else
      local parts = {backward(dy, node.saved, node.rule, true, true, true, node.inputs[2])}
      for i = 1, 3 do core.copy_(places[i], parts[i]) end
      grad_mask = table.remove(parts, 4)
      free_all(parts)
    end
    free_all(places)
    free_all {dy, split}
    free_copy(joined, grad)
    return whole, grad_mask
  end,
}

--- Attention of a sequence to itself, from one product for queries, keys and values: what MultiHeadAttention computes
-- between its two linear layers.
-- @param x       (batch, positions, 3 · features): all heads' queries, then the keys, then the values
-- @param heads   divides features
-- @param options as for attention, but for enable_gqa
--   fp8.self_attention(fp8.ones(1, 2, 3), 1) --> {{{1}, {1}}}
-- @return (batch, positions, features)
function attention.self_attention(x, heads, options)
  if not core.is_tensor(x) then raise("self_attention: the input must be a tensor, got " .. type(x)) end
  local shape = shape_of(x)
  local width = shape[3] or 0
  if not is_whole(heads, 1) then
    raise("self_attention: heads must be a whole number of at least 1, got " .. tostring(heads))
  end
  if #shape ~= 3 or width == 0 or width % (3 * heads) ~= 0 then
    raise(("self_attention: (batch, positions, 3 · features) is needed, with features that %d heads can share, got %s")
      :format(heads, text(shape)))
  end
  local batch, positions, features = shape[1], shape[2], width / 3
  local rule = read_options("self_attention", options, packed_options, features / heads)
  if rule.mask ~= nil then
    mask.check("self_attention", "mask", rule.mask, {batch, heads, positions, positions}, core.device(x))
  end
  local heads_shape = {batch, positions, 3, heads, features / heads}
  local input = core.contiguous(x)
  local parts = {heads_of(input, 1, heads_shape), heads_of(input, 2, heads_shape), heads_of(input, 3, heads_shape)}
  local saved, y = forward(parts[1], parts[2], parts[3], rule)
  local turned = transpose(y, 2, 3)
  local rows = core.contiguous(turned)
  local joined = view(rows, {batch, positions, features})
  free_all(parts)
  free_all {y, turned}
  free_copy(rows, turned)
  free_copy(input, x)
  if needs_grad(x, rule.mask) then
    local node = remember(joined, packed, {x, rule.mask or false}, saved, rule)
    node.heads_shape, node.input_shape = heads_shape, shape
  else
    free_all(saved)
  end
  return joined
end

return attention

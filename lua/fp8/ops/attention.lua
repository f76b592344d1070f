--- Attention: softmax(scale · q·kᵀ)·v, by a fused kernel where the device has one for the tensors (core.attention),
-- else by batched products and one pass over the scores, which are f32: those of 16-bit tensors can be larger than f16
-- holds, and bf16 would leave nothing of their differences.
local core = require "fp8.core"
local autograd = require "fp8.autograd"
local check_options = require "fp8.check_options"
local computable = require "fp8.computable"
local is_whole = require "fp8.is_whole"
local shapes = require "fp8.shapes"
local transposed_matmul = require "fp8.ops.matmul.transposed"

local needs_grad, record = autograd.needs_grad, autograd.record
local free, matmul, matrices, shape_of, share = core.free, core.matmul, core.matrices, core.shape, core.share
local select, transpose, view = core.select, core.transpose, core.view
local times_transposed, triangle_matmul = transposed_matmul.times_transposed, core.triangle_matmul
local raise, text = core.raise, shapes.text

local attention = {}

local known_options = {causal = "boolean", scale = "number", dropout = "number"}

-- {causal =, scale =, dropout =} of the options, checked.
local function read_options(name, options, features)
  options = check_options(name, options, known_options)
  local scale, dropout = options.scale or 1 / math.sqrt(features), options.dropout or 0
  if not (scale > -math.huge and scale < math.huge) then
    raise(("%s: option scale must be finite, got %s"):format(name, scale))
  end
  if not (dropout >= 0 and dropout < 1) then
    raise(("%s: option dropout must be at least 0 and below 1, got %s"):format(name, dropout))
  end
  return {causal = options.causal or false, scale = scale, dropout = dropout}
end

-- weights·x of what belongs to scores, (…, queries, keys) and (…, keys, features), and weightsᵀ·x of (…, queries,
-- features). Causal: weights of keys that a query does not see are 0, and what they are multiplied with, a NaN maybe,
-- does not count.
local function of_keys(weights, x, causal)
  if causal then return triangle_matmul(weights, x, true) end
  return matmul(weights, x)
end

local function of_queries(weights, x, causal)
  local turned = transpose(weights, -1, -2)
  local y = causal and triangle_matmul(turned, x, false) or matmul(turned, x)
  free(turned)
  return y
end

-- x as `dtype`; x itself is freed, unless it has that.
local function converted(x, dtype)
  local y = core.to(x, {dtype = dtype})
  if y ~= x then free(x) end
  return y
end

-- What the backward pass needs, as a list that only this file holds: q, k and v, where they are a copy or the tensors'
-- own memory, then the probabilities, or y and log_sums of the fused kernel; then y = softmax(scale · q·kᵀ)·v.
local function forward(q, k, v, rule)
  if rule.dropout == 0 then
    local y, log_sums = core.attention(q, k, v, rule.scale, rule.causal)
    rule.fused = y ~= nil
    if y then return {share(q), share(k), share(v), share(y), log_sums}, y end
  end
  q, k, v = matrices(q), matrices(k), matrices(v)
  local scores = times_transposed(q, k, nil, "f32")
  core.attention_softmax_(scores, rule.scale, rule.causal)
  local probabilities = converted(scores, core.dtype(v))
  local factor = probabilities
  if rule.dropout > 0 then factor, rule.seed, rule.offset = core.dropout(probabilities, rule.dropout) end
  local y = of_keys(factor, v, rule.causal)
  if factor ~= probabilities then free(factor) end
  return {q, k, v, probabilities}, y
end

-- Writes the gradients of q, k and v, from that of y, with the fused kernel.
local function fused_backward(grad, saved, rule, grad_q, grad_k, grad_v)
  local q, k, v, y, log_sums = unpack(saved)
  core.attention_backward {
    q = q, k = k, v = v, scale = rule.scale, causal = rule.causal, y = y, log_sums = log_sums, dy = grad,
    dq = grad_q, dk = grad_k, dv = grad_v,
  }
  return grad_q, grad_k, grad_v
end

local function empty_like(x)
  return core.empty(shape_of(x), {dtype = core.dtype(x), device = core.device(x)})
end

-- The gradients of q, k and v, of those that are wanted, from that of y.
local function backward(grad, saved, rule, want_q, want_k, want_v)
  if rule.fused then
    local parts = {empty_like(saved[1]), empty_like(saved[2]), empty_like(saved[3])}
    return fused_backward(core.contiguous(grad), saved, rule, unpack(parts))
  end
  local q, k, v, probabilities = saved[1], saved[2], saved[3], saved[4]
  local dy, grad_q, grad_k, grad_v = matrices(grad), nil, nil, nil
  if want_v then
    local factor = probabilities
    if rule.dropout > 0 then factor = core.dropout(probabilities, rule.dropout, rule.seed, rule.offset) end
    grad_v = of_queries(factor, dy, rule.causal)
    if factor ~= probabilities then free(factor) end
  end
  if want_q or want_k then
    local scores = times_transposed(dy, v, nil, "f32")
    if rule.dropout > 0 then
      local dropped = core.dropout(scores, rule.dropout, rule.seed, rule.offset)
      free(scores)
      scores = dropped
    end
    local wide = core.to(probabilities, {dtype = "f32"})
    core.attention_softmax_backward_(scores, wide, rule.scale, rule.causal)
    if wide ~= probabilities then free(wide) end
    scores = converted(scores, core.dtype(q))
    if want_q then grad_q = of_keys(scores, k, rule.causal) end
    if want_k then grad_k = of_queries(scores, q, rule.causal) end
    free(scores)
  end
  free(dy)
  return grad_q, grad_k, grad_v
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
    return backward(grad, node.saved, node.rule, inputs[1], inputs[2], inputs[3])
  end,
}

-- Returns the number of features.
local function check_operands(q, k, v)
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
  for i = 1, rank - 2 do fits = fits and a[i] == b[i] and a[i] == c[i] end
  if not fits then
    raise(("attention: q (…, queries, features), k (…, keys, features) and v (…, keys, values) are needed, got %s, " ..
      "%s and %s"):format(text(a), text(b), text(c)))
  end
  local dtype = core.dtype(q)
  if not computable[dtype] or core.dtype(k) ~= dtype or core.dtype(v) ~= dtype then
    local hint = computable[dtype] and (': write k:to "%s" and v:to "%s"'):format(dtype, dtype) or ""
    raise(("attention: q, k and v must be f32, f16 or bf16, all the same, got %s, %s and %s%s"):format(dtype,
      core.dtype(k), core.dtype(v), hint))
  end
  return a[rank]
end

local function check_causal(rule, queries, keys)
  if rule.causal and queries > keys then
    raise(("attention: causal: there may be no more queries than keys, got %d and %d"):format(queries, keys))
  end
end

--- softmax(scale · q·kᵀ)·v over the last two dimensions: Vaswani et al., "Attention is all you need" (2017). For the
-- backward pass it keeps q, k and v, and the probabilities or, of the fused kernel, y. The fused kernel takes four
-- dimensions without dropout: on the CPU from 16 features on, on a GPU f16 and bf16, and 32, 64 or 128 features.
--
-- Causal: query i sees keys up to i + keys - queries, so that the last query sees all of them; no more queries than
-- keys. With as many of both, which is what PyTorch's is_causal is meant for, position i sees positions up to i.
-- @param q (…, queries, features), f32, f16 or bf16: (batch, heads, positions, features) as a rule
-- @param k (…, keys, features), v (…, keys, values): of one dtype with q, and its leading dimensions
-- @param options {causal = false, scale = 1 / √features, dropout = the probability with which probabilities become 0}
-- @return (…, queries, values)
--   fp8.attention(fp8.zeros(1, 2, 4), fp8.ones(1, 3, 4), fp8.arange(3):view(1, 3, 1)) --> {{{1}, {1}}}
function attention.attention(q, k, v, options)
  local rule = read_options("attention", options, check_operands(q, k, v))
  check_causal(rule, core.size(q, -2), core.size(k, -2))
  local saved, y = forward(q, k, v, rule)
  if needs_grad(q, k, v) then
    remember(y, separate, {q, k, v}, saved, rule)
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
    if node.rule.fused then
      fused_backward(dy, node.saved, node.rule, unpack(places))
    else
      local parts = {backward(dy, node.saved, node.rule, true, true, true)}
      for i = 1, 3 do core.copy_(places[i], parts[i]) end
      free_all(parts)
    end
    free_all(places)
    free_all {dy, split}
    free_copy(joined, grad)
    return whole
  end,
}

--- Attention of a sequence to itself, from one product for queries, keys and values: what MultiHeadAttention computes
-- between its two linear layers.
-- @param x       (batch, positions, 3 · features): all heads' queries, then the keys, then the values
-- @param heads   divides features
-- @param options as for attention
-- @return (batch, positions, features)
--   fp8.self_attention(fp8.randn(2, 5, 3 * 8), 2, {causal = true}).shape --> {2, 5, 8}
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
  local rule = read_options("self_attention", options, features / heads)
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
  if needs_grad(x) then
    local node = remember(joined, packed, {x}, saved, rule)
    node.heads_shape, node.input_shape = heads_shape, shape
  else
    free_all(saved)
  end
  return joined
end

return attention

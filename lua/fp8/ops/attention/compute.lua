--- softmax(scale · q·kᵀ + mask)·v and its derivative, not recorded: by a fused kernel where the device has one for the
-- tensors (core.attention), else by batched products and one pass over the scores, which are f32: those of 16-bit
-- tensors can be larger than f16 holds, and bf16 would leave nothing of their differences.
--
-- A rule is {scale =, causal =, dropout =, mask = or nil, wants_mask = whether that is to get a gradient, group = how
-- many heads of q share one of k and v, plan = of a recipe (recipe.lua) or nil}; `forward` adds to it what `backward`
-- has to know.
local core = require "fp8.core"
local mask = require "fp8.ops.attention.mask"
local transposed_matmul = require "fp8.ops.matmul.transposed"

local free, matmul, matrices, shape_of, share = core.free, core.matmul, core.matrices, core.shape, core.share
local transpose, view = core.transpose, core.view
local times_transposed, triangle_matmul = transposed_matmul.times_transposed, core.triangle_matmul

local compute = {}

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

-- The shape of k or v, (…, heads, keys, features), with heads and the sharers of one apart.
local function grouped_shape(shape, heads, group)
  local rank = #shape
  local apart = {unpack(shape, 1, rank - 3)}
  apart[rank - 2], apart[rank - 1], apart[rank], apart[rank + 1] = heads, group, shape[rank - 1], shape[rank]
  return apart
end

-- k or v with a head for each of q: a view where all share one head, else a copy.
local function repeated(x, group)
  if group == 1 then return share(x) end
  local shape = shape_of(x)
  local rank, heads = #shape, shape[#shape - 2]
  local whole = {unpack(shape)}
  whole[rank - 2] = heads * group
  if heads == 1 then return core.expand(x, whole) end
  local apart = core.unsqueeze(x, rank - 1)
  local wide = core.expand(apart, grouped_shape(shape, heads, group))
  local copy = core.contiguous(wide)
  local y = view(copy, whole)
  free(apart)
  free(wide)
  free(copy)
  return y
end

-- The gradient of k or v from that with a head for each of q, which is used up.
local function summed(grad, group)
  if group == 1 or not grad then return grad end
  local shape = shape_of(grad)
  local apart = view(grad, grouped_shape(shape, shape[#shape - 2] / group, group))
  local y = core.sum(apart, {#shape - 1})
  free(apart)
  free(grad)
  return y
end

-- compute.forward of q, k and v as they are multiplied.
local function forward(q, k, v, rule)
  local quantizes = rule.plan and rule.plan:has "probabilities"
  if rule.dropout == 0 and not rule.wants_mask and not quantizes then
    local y, log_sums = core.attention(q, k, v, rule.scale, rule.causal, rule.mask)
    rule.fused = y ~= nil
    if y then return {share(q), share(k), share(v), share(y), log_sums, rule.mask and share(rule.mask)}, y end
  end
  q = matrices(q)
  local keys, values = repeated(k, rule.group), repeated(v, rule.group)
  k, v = matrices(keys), matrices(values)
  free(keys)
  free(values)
  local scores = times_transposed(q, k, nil, "f32")
  if rule.mask then
    scores = mask.apply(scores, rule.scale, rule.mask)
    core.attention_softmax_(scores, 1, rule.causal, true)
  else
    core.attention_softmax_(scores, rule.scale, rule.causal)
  end
  local probabilities = converted(scores, core.dtype(v))
  local factor = probabilities
  if rule.dropout > 0 then factor, rule.seed, rule.offset = core.dropout(probabilities, rule.dropout) end
  local quantized = quantizes and rule.plan:values("probabilities", factor) or nil
  local y = of_keys(quantized or factor, v, rule.causal)
  if factor ~= probabilities then free(factor) end
  return {q, k, v, probabilities, quantized}, y
end

--- What the backward pass needs, as a list that only this file makes sense of: q, k and v as they were multiplied,
-- where they are a copy or the tensors' own memory, then the probabilities, and what these were quantized to if they
-- were, or y and log_sums of the fused kernel, and the mask; then y.
function compute.forward(q, k, v, rule)
  local plan = rule.plan
  if not plan then return forward(q, k, v, rule) end
  q, k, v = plan:values("q", q), plan:values("k", k), plan:values("v", v)
  local saved, y = forward(q, k, v, rule)
  free(q)
  free(k)
  free(v)
  return saved, y
end

local function empty_like(x, shape)
  return core.empty(shape or shape_of(x), {dtype = core.dtype(x), device = core.device(x)})
end

-- A place for the gradients of k or v, with a head for each of q.
local function place_for(x, group)
  local shape = shape_of(x)
  if group > 1 then shape[#shape - 2] = shape[#shape - 2] * group end
  return empty_like(x, shape)
end

--- Writes the gradients of q, k and v, from that of y, with the fused kernel. Those of k and v have a head for each of
-- q.
function compute.fused_backward(grad, saved, rule, grad_q, grad_k, grad_v)
  local q, k, v, y, log_sums, value = unpack(saved)
  core.attention_backward {
    q = q, k = k, v = v, scale = rule.scale, causal = rule.causal, mask = value, y = y, log_sums = log_sums, dy = grad,
    dq = grad_q, dk = grad_k, dv = grad_v,
  }
end

-- The gradient of the scores, times the scale, and that of the mask if it is wanted, from that of y.
local function score_gradients(dy, saved, rule, want_mask)
  local v, probabilities = saved[3], saved[4]
  local scores = times_transposed(dy, v, nil, "f32")
  if rule.dropout > 0 then
    local dropped = core.dropout(scores, rule.dropout, rule.seed, rule.offset)
    free(scores)
    scores = dropped
  end
  local wide, grad_mask = core.to(probabilities, {dtype = "f32"}), nil
  core.attention_softmax_backward_(scores, wide, want_mask and 1 or rule.scale, rule.causal)
  if wide ~= probabilities then free(wide) end
  if want_mask then
    grad_mask = core.clone(scores)
    core.mul_(scores, rule.scale)
  end
  return scores, grad_mask
end

--- The gradients of q, k, v and the mask, of those that are wanted, from that of y.
function compute.backward(grad, saved, rule, want_q, want_k, want_v, want_mask)
  local q, k, v, probabilities = saved[1], saved[2], saved[3], saved[4]
  if rule.fused then
    local grad_q, grad_k, grad_v = empty_like(q), place_for(k, rule.group), place_for(v, rule.group)
    compute.fused_backward(core.contiguous(grad), saved, rule, grad_q, grad_k, grad_v)
    return grad_q, summed(grad_k, rule.group), summed(grad_v, rule.group)
  end
  local dy, grad_q, grad_k, grad_v, grad_mask = matrices(grad), nil, nil, nil, nil
  if want_v then
    local factor = saved[5] or probabilities
    if rule.dropout > 0 and not saved[5] then
      factor = core.dropout(probabilities, rule.dropout, rule.seed, rule.offset)
    end
    grad_v = of_queries(factor, dy, rule.causal)
    if factor ~= probabilities and factor ~= saved[5] then free(factor) end
  end
  if want_q or want_k or want_mask then
    local scores
    scores, grad_mask = score_gradients(dy, saved, rule, want_mask)
    scores = converted(scores, core.dtype(q))
    if want_q then grad_q = of_keys(scores, k, rule.causal) end
    if want_k then grad_k = of_queries(scores, q, rule.causal) end
    free(scores)
  end
  free(dy)
  return grad_q, summed(grad_k, rule.group), summed(grad_v, rule.group), grad_mask
end

return compute

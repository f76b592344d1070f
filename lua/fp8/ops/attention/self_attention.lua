--- Attention of a sequence to itself, from one tensor of queries, keys and values.
local autograd = require "fp8.autograd"
local check_options = require "fp8.check_options"
local compute = require "fp8.ops.attention.compute"
local core = require "fp8.core"
local is_whole = require "fp8.is_whole"
local mask = require "fp8.ops.attention.mask"
local rules = require "fp8.ops.attention.rule"
local shapes = require "fp8.shapes"

local free, raise, shape_of, transpose, view = core.free, core.raise, core.shape, core.transpose, core.view
local free_all = rules.free_all

local known_options = rules.options {kv_heads = "number", rotary = "table"}

-- q, k and v in x (batch, positions, all heads · features), as (batch, heads, positions, features): a list of views.
-- `sizes` is {batch, positions, heads, kv_heads, features}.
local function parts_of(x, sizes)
  local batch, positions, heads, kv_heads, features = unpack(sizes)
  local all, list, first = view(x, {batch, positions, heads + 2 * kv_heads, features}), {}, 1
  for i, count in ipairs {heads, kv_heads, kv_heads} do
    local chosen = core.narrow(all, 3, first, count)
    list[i], first = transpose(chosen, 2, 3), first + count
    free(chosen)
  end
  free(all)
  return list
end

-- q or k turned by its positions, or back; x is used up.
local function turned(x, rotary, backwards)
  local y = core.rotate(x, -2, rotary.base or 10000, 0, rotary.interleaved or false, backwards)
  free(x)
  return y
end

-- Frees what core.contiguous has made of x, where that is a copy.
local function free_copy(copy, x)
  if copy ~= x then free(copy) end
end

-- The gradients of q, k and v into `places`, from that of y; returns that of the mask.
local function write_gradients(node, dy, places)
  local rule, rotary = node.rule, node.rotary
  if rule.fused and rule.group == 1 and not rotary then
    compute.fused_backward(dy, node.saved, rule, unpack(places))
    return nil
  end
  local grad_q, grad_k, grad_v, grad_mask = compute.backward(dy, node.saved, rule, true, true, true, node.inputs[2])
  if rotary then grad_q, grad_k = turned(grad_q, rotary, true), turned(grad_k, rotary, true) end
  for i, grad in ipairs {grad_q, grad_k, grad_v} do
    core.copy_(places[i], grad)
    free(grad)
  end
  return grad_mask
end

local operation = {
  name = "self_attention",
  backward = function(node, grad)
    local sizes = node.sizes
    local joined = core.contiguous(grad)
    local split = view(joined, {sizes[1], sizes[2], sizes[3], sizes[5]})
    local dy = transpose(split, 2, 3)
    local whole = core.empty(node.input_shape, {dtype = node.dtype, device = core.device(grad)})
    local places = parts_of(whole, sizes)
    local grad_mask = write_gradients(node, dy, places)
    free_all(places)
    free_all {dy, split}
    free_copy(joined, grad)
    return whole, grad_mask
  end,
}

-- {batch, positions, heads, kv_heads, features of a head}
local function read_sizes(x, heads, kv_heads)
  if not core.is_tensor(x) then raise("self_attention: the input must be a tensor, got " .. type(x)) end
  local shape = shape_of(x)
  local width = shape[3] or 0
  if not is_whole(heads, 1) then
    raise("self_attention: heads must be a whole number of at least 1, got " .. tostring(heads))
  end
  if not is_whole(kv_heads, 1) or heads % kv_heads ~= 0 then
    raise(("self_attention: option kv_heads must be a whole number that divides %d heads, got %s"):format(heads,
      tostring(kv_heads)))
  end
  if #shape ~= 3 or width == 0 or width % (heads + 2 * kv_heads) ~= 0 then
    raise(("self_attention: (batch, positions, %s) is needed, with features that %d heads can share, got %s"):format(
      kv_heads == heads and "3 · features" or "features of queries, keys and values", heads, shapes.text(shape)))
  end
  return {shape[1], shape[2], heads, kv_heads, width / (heads + 2 * kv_heads)}
end

local rotary_options = {base = "number", interleaved = "boolean"}

--- Attention of a sequence to itself, from one product for queries, keys and values: what MultiHeadAttention computes
-- between its two linear layers.
--   fp8.self_attention(fp8.ones(1, 2, 3), 1) --> {{{1}, {1}}}
-- @param x       (batch, positions, 3 · features): all heads' queries, then the keys, then the values
-- @param heads   divides features
-- @param options as for attention, but for enable_gqa; and
--   kv_heads  how many heads keys and values have, each for as many heads of queries: x has fewer features then (heads)
--   rotary    {base =, interleaved =}: queries and keys are turned by their positions first, as fp8.rotary_embedding
--             does it (not at all)
-- @return (batch, positions, features)
return function(x, heads, options)
  local kv_heads = type(options) == "table" and options.kv_heads or heads
  local sizes = read_sizes(x, heads, kv_heads)
  local rule = rules.read("self_attention", options, known_options, sizes[5])
  local rotary = options and options.rotary
  rule.group = heads / kv_heads
  if rotary then check_options("self_attention: rotary", rotary, rotary_options) end
  if rule.mask ~= nil then
    mask.check("self_attention", "mask", rule.mask, {sizes[1], heads, sizes[2], sizes[2]}, core.device(x))
  end
  local input = core.contiguous(x)
  local parts = parts_of(input, sizes)
  if rotary then
    for i = 1, 2 do parts[i] = turned(parts[i], rotary, false) end
  end
  local saved, y = compute.forward(parts[1], parts[2], parts[3], rule)
  local apart = transpose(y, 2, 3)
  local rows = core.contiguous(apart)
  local joined = view(rows, {sizes[1], sizes[2], heads * sizes[5]})
  free_all(parts)
  free_all {y, apart}
  free_copy(rows, apart)
  free_copy(input, x)
  if autograd.needs_grad(x, rule.mask) then
    local node = rules.remember(joined, operation, {x, rule.mask or false}, saved, rule)
    node.sizes, node.input_shape, node.rotary = sizes, shape_of(x), rotary and {
      base = rotary.base, interleaved = rotary.interleaved,
    }
  else
    free_all(saved)
  end
  return joined
end

--- Attention.
local bound = require "spec.support.reference.bound"
local matrices = require "spec.support.programs.matrices"
local operation = require "spec.support.programs.operation"
local softmax = require "spec.support.programs.softmax"
local tensor = require "spec.support.reference.tensor"

local new, map, var = operation.new, operation.map, operation.var
local exact, is_computable = bound.exact, operation.is_computable

local operations = {}

-- One head: the probabilities as they are computed and as their product with v has them.
local function probabilities(q, k, rule, dtype)
  local scores = matrices.product(q, matrices.transposed(k))
  local scale, list = bound.to("f32", exact(rule.scale)), {}
  for i = 0, q.rows - 1 do
    local seen = rule.causal and k.rows - q.rows + i + 1 or k.rows
    local values = {unpack(matrices.row(scores, i), 1, seen)}
    local y = softmax.softmax(map(function(value) return bound.mul(value, scale) end, values))
    for j = 1, k.rows do list[#list + 1] = y[j] or exact(0) end
  end
  local p = matrices.new(list, q.rows, k.rows)
  return p, matrices.converted(p, dtype)
end

local function attend(q, k, v, rule, dtype)
  local _, narrow = probabilities(q, k, rule, dtype)
  return matrices.product(narrow, v)
end

local function attend_backward(q, k, v, rule, dtype, dy)
  local _, p = probabilities(q, k, rule, dtype)
  local scale = bound.to("f32", exact(rule.scale))
  local dp, list = matrices.product(dy, matrices.transposed(v)), {}
  for i = 0, q.rows - 1 do
    local slopes = softmax.softmax_gradient(matrices.row(dp, i), matrices.row(p, i), function(a) return a end)
    for j = 1, k.rows do list[#list + 1] = bound.to(dtype, bound.mul(slopes[j], scale)) end
  end
  local ds = matrices.new(list, q.rows, k.rows)
  local dq, dk = matrices.product(ds, k), matrices.product(matrices.transposed(ds), q)
  local dv = matrices.product(matrices.transposed(p), dy)
  return matrices.converted(dq, dtype), matrices.converted(dk, dtype), matrices.converted(dv, dtype)
end

local function rule_of(options, features)
  options = options or {}
  return {scale = options.scale or 1 / math.sqrt(features), causal = options.causal}
end

local function attention_options(g, queries, keys)
  local options = {scale = g.random(3) == 1 and g.pick {0.5, 1, 2} or nil}
  if queries <= keys and g.random(2) == 1 then options.causal = true end
  return next(options) and options or nil
end

local function finite_inputs(...)
  for _, x in ipairs {...} do
    if not operation.all_finite(tensor.list(x)) then return false end
  end
  return true
end

operations.attention = {
  text = "function", any_layout = true,
  takes = function(x) return is_computable(x) and #x.shape >= 2 and x.shape[#x.shape] > 0 and #x.shape <= 4 end,
  make = function(g, x)
    local own = g.tensor(x)
    local shape = {unpack(own.shape)}
    local queries = shape[#shape - 1]
    shape[#shape - 1] = g.random(4)
    local k = g.leaf(own.dtype, shape, {grad = true})
    local values = {unpack(shape)}
    if g.random(3) == 1 then values[#values] = g.random(4) end
    local v = g.random(3) == 1 and values[#values] == shape[#shape] and k or g.leaf(own.dtype, values, {grad = true})
    return {var(x), var(k), var(v), attention_options(g, queries, shape[#shape - 1])}
  end,
  compute = function(q, k, v, options)
    local rule, shape = rule_of(options, q.shape[#q.shape]), {unpack(q.shape)}
    shape[#shape] = v.shape[#v.shape]
    if not finite_inputs(q, k, v) then
      local anything = {}
      for i = 1, tensor.count(shape) do anything[i] = false end
      return new(q.dtype, shape, anything)
    end
    local a, b, c, list = matrices.of_tensor(q), matrices.of_tensor(k), matrices.of_tensor(v), {}
    for i = 1, #a do list[i] = attend(a[i], b[i], c[i], rule, q.dtype) end
    return new(q.dtype, shape, matrices.any_if_unbounded(matrices.joined(list)), true)
  end,
  gradient = function(node, dy)
    local q, k, v, options = unpack(node.arguments, 1, 4)
    local rule, rank = rule_of(options, q.shape[#q.shape]), #q.shape
    local grads = matrices.of_list(dy, q.shape[rank - 1], v.shape[rank])
    local a, b, c, dq, dk, dv = matrices.of_tensor(q), matrices.of_tensor(k), matrices.of_tensor(v), {}, {}, {}
    for i = 1, #a do
      local g = grads[i] or matrices.new({}, q.shape[rank - 1], v.shape[rank])
      dq[i], dk[i], dv[i] = attend_backward(a[i], b[i], c[i], rule, q.dtype, g)
    end
    local result = {matrices.joined(dq), matrices.joined(dk), matrices.joined(dv)}
    local known = finite_inputs(q, k, v)
    for i, x in ipairs {q, k, v} do
      if not known then result[i] = map(function() return {0, math.huge} end, result[i]) end
      result[i].shape = x.shape
    end
    return result
  end,
}

-- q, k and v of x (batch, positions, 3 · features) as tensors of the reference, (batch, heads, positions, features).
local function heads_of(x, heads)
  local batch, positions, width = unpack(x.shape)
  local features = width / 3 / heads
  local parts = {}
  for part = 0, 2 do
    parts[part + 1] = tensor.view(x, {batch, heads, positions, features},
      {x.stride[1], features * x.stride[3], x.stride[2], x.stride[3]}, x.offset + part * features * heads * x.stride[3])
  end
  return parts
end

-- From (batch, heads, positions, features) to (batch, positions, heads · features), or where each element comes from.
local function merged(list, batch, heads, positions, features)
  local x = tensor.new("f32", {batch, heads, positions, features}, list)
  local stride = x.stride
  return tensor.list(tensor.view(x, {batch, positions, heads, features}, {stride[1], stride[3], stride[2], stride[4]}))
end

operations.self_attention = {
  text = "function", any_layout = true,
  takes = is_computable,
  make = function(g, x)
    local own = g.tensor(x)
    local heads, features = g.random(2), g.random(3)
    local options = attention_options(g, 1, 1)
    if #own.shape == 3 and own.shape[3] > 0 and own.shape[3] % 3 == 0 then
      return {var(x), own.shape[3] % (3 * heads) == 0 and heads or 1, options}
    end
    return {var(g.leaf(own.dtype, {g.random(2), g.random(4), 3 * heads * features}, {grad = true})), heads, options}
  end,
  compute = function(x, heads, options)
    local shape = {x.shape[1], x.shape[2], x.shape[3] / 3}
    if not finite_inputs(x) then return operations.attention.compute(tensor.new(x.dtype, shape, {0 / 0}),
      tensor.new(x.dtype, shape, {0 / 0}), tensor.new(x.dtype, shape, {0 / 0}), options) end
    local q, k, v = unpack(heads_of(x, heads))
    local y = operations.attention.compute(q, k, v, options)
    return new(x.dtype, shape, merged(y.storage, unpack(y.shape)), true)
  end,
  gradient = function(node, dy)
    local x, heads, options = unpack(node.arguments, 1, 3)
    local batch, positions, width = unpack(x.shape)
    local features = width / 3 / heads
    local q, k, v = unpack(heads_of(x, heads))
    -- dy by heads: the inverse of `merged`.
    local by_heads = merged(dy, batch, positions, heads, features)
    local result = {shape = x.shape}
    local parts = operations.attention.gradient({arguments = {q, k, v, options}}, by_heads)
    for part = 0, 2 do
      local list = merged(parts[part + 1], batch, heads, positions, features)
      for i = 0, batch * positions - 1 do
        for j = 1, heads * features do
          result[i * width + part * heads * features + j] = list[i * heads * features + j]
        end
      end
    end
    return {result}
  end,
}

return operations

-- Every derivative against central differences of the forward pass (float32 on the CPU, fourth order), and the
-- gradients of every other device against those of the CPU.
local ffi = require "ffi"
local fp8 = require "fp8"
local support = require "spec.support"

--- A function that makes an input of these sizes.
local function any(...)
  local sizes = {...}
  return function() return fp8.randn(sizes) end
end

local function above_zero(...)
  local sizes = {...}
  return function() return fp8.randn(sizes):abs() + 0.5 end
end

--- Values so far apart and from 0 that no step passes a kink.
local function apart(...)
  local sizes = {...}
  return function() return support.apart(sizes) end
end

-- {name =, f = function of the inputs, inputs = functions that make them, step = of the differences, or 0.02}
local cases = {}

local function case(name, f, ...)
  local new = {name = name, f = f, inputs = {...}}
  table.insert(cases, new)
  return new
end

local function on_device_of(x, values, dtype)
  return fp8.tensor(values, {dtype = dtype or "i64", device = x.device})
end

-- Elementwise.
case("-x", function(x) return -x end, any(2, 3))
case("abs", function(x) return x:abs() end, apart(2, 3))
case("exp", function(x) return x:exp() end, any(2, 3))
case("log", function(x) return x:log() end, above_zero(2, 3)).step = 0.005
case("sqrt", function(x) return x:sqrt() end, above_zero(2, 3)).step = 0.01
case("rsqrt", function(x) return x:rsqrt() end, above_zero(2, 3)).step = 0.01
case("sin", function(x) return x:sin() end, any(2, 3))
case("cos", function(x) return x:cos() end, any(2, 3))
case("tan", function(x) return (x * 0.4):tan() end, any(2, 3))
case("erf", function(x) return x:erf() end, any(2, 3))
case("expm1", function(x) return x:expm1() end, any(2, 3))
for _, name in ipairs {"log2", "log10", "log1p"} do
  case(name, function(x) return x[name](x) end, above_zero(2, 3)).step = 0.005
end
for _, name in ipairs {"floor", "ceil", "round", "trunc", "sign"} do
  case(name, function(x) return x[name](x * 0.1) + x end, apart(2, 3))
end
case("square", function(x) return x:square() end, any(2, 3))
case("reciprocal", function(x) return x:reciprocal() end, above_zero(2, 3)).step = 0.005
case("leaky_relu", function(x) return x:leaky_relu(0.2) end, apart(3, 4))
case("elu", function(x) return x:elu(0.7) end, apart(3, 4))
case("softplus", function(x) return x:softplus() + x:softplus(2) end, any(3, 4))
case("atan2, broadcast", function(x, y) return x:atan2(y) end, any(2, 3), above_zero(3)).step = 0.01
case("hypot, broadcast", function(x, y) return x:hypot(y) end, any(2, 3), above_zero(3)).step = 0.01
case("remainder", function(x, y) return x:remainder(y * 0 + 0.13) * y end, apart(2, 3), any(2, 3)).step = 0.002
case("remainder by a divisor", function(x, y) return (x * 0 + 7.3):remainder(y) + x end, any(2, 3),
  above_zero(2, 3)).step = 1e-4
case("addcmul, broadcast", function(x, a, b) return x:addcmul(a, b, {value = 0.7}) end, any(2, 3), any(3), any(2, 1))
case("addcdiv, broadcast", function(x, a, b) return x:addcdiv(a, b, {value = 0.7}) end, any(2, 3), any(3),
  above_zero(2, 1)).step = 0.005
case("lerp", function(x, y) return x:lerp(y, 0.3) * x:lerp(y, 0.8) end, any(2, 3), any(3))
case("lerp by a tensor", function(x, y, w) return x:lerp(y, w) end, any(2, 3), any(3), apart(2, 3))
case("tanh", function(x) return x:tanh() end, any(2, 3))
case("sigmoid", function(x) return x:sigmoid() end, any(2, 3))
case("relu", function(x) return x:relu() end, apart(3, 4))
case("gelu", function(x) return x:gelu() end, any(3, 4))
case("gelu, by tanh", function(x) return x:gelu "tanh" end, any(3, 4))
case("silu", function(x) return x:silu() end, any(3, 4))
case("clamp", function(x) return x:clamp(-0.3, 0.6) end, apart(3, 4))
case("clamp from below", function(x) return x:clamp(-0.3) end, apart(3, 4))
case("clamp from above", function(x) return x:clamp(nil, 0.3) end, apart(3, 4))
case("x + y, broadcast", function(x, y) return x + y end, any(3, 1, 2), any(4, 1))
case("x - y, broadcast", function(x, y) return x - y end, any(2), any(3, 2))
case("x * y, broadcast", function(x, y) return x * y end, any(2, 1, 3), any(4, 1))
case("x / y, broadcast", function(x, y) return x / y end, any(2, 3), above_zero(3)).step = 0.005
case("numbers on both sides", function(x) return (2 - x) * 3 + 1 / (x + 5) - x / 4 end, any(2, 3))
case("x * x", function(x) return x * x end, any(2, 3))
for exponent = 0, 3 do
  case("x ^ " .. exponent, function(x) return x ^ exponent end, any(2, 3))
end
case("x ^ -1.5", function(x) return x ^ -1.5 end, above_zero(2, 3)).step = 0.005
case("x ^ y, broadcast", function(x, y) return x ^ y end, above_zero(2, 3), any(3)).step = 0.005
case("2 ^ x", function(x) return 2 ^ x end, any(2, 3))
case("maximum", function(x) return fp8.maximum(x:narrow(2, 1, 3), x:narrow(2, 4, 3)) end, apart(2, 6))
case("minimum, broadcast", function(x) return fp8.minimum(x:narrow(1, 1, 1), x) end, apart(3, 4))
case("maximum with a number", function(x) return fp8.maximum(x, 0.15) end, apart(3, 4))
case("where, broadcast", function(x, y) return fp8.where(on_device_of(x, {{1, 0, 1}, {0, 0, 1}}, "u8"), x, y) end,
  any(2, 1), any(3))
case("masked_fill", function(x) return x:masked_fill(on_device_of(x, {1, 0, 0}), 2) end, any(2, 3))
case("masked_select", function(x) return x:masked_select(on_device_of(x, {{1, 0, 1}, {0, 0, 1}}, "u8")) end, any(2, 3))
case("masked_select, broadcast", function(x) return x:masked_select(on_device_of(x, {{1, 0, 1}, {0, 1, 1}}, "u8")) end,
  any(3))
case("to f32 and back", function(x) return x:to("f32"):contiguous():clone() * x end, any(2, 3))

-- Reductions.
for _, name in ipairs {"sum", "mean"} do
  case(name, function(x) return x[name](x) * x end, any(2, 3))
  case(name .. " of a dimension", function(x) return x[name](x, -1) end, any(2, 3, 2))
  case(name .. " of two dimensions, keepdim", function(x) return x[name](x, {1, 3}, true) * x end, any(2, 3, 2))
end
for _, name in ipairs {"max", "min"} do
  case(name, function(x) return x[name](x) end, apart(2, 3))
  case(name .. " of a dimension", function(x) return x[name](x, 1) end, apart(3, 4))
  case(name .. " of a dimension, keepdim", function(x) return x[name](x, -1, true) * x end, apart(3, 4))
end
case("prod", function(x) return x:prod() * x end, any(2, 3))
case("prod of a dimension, keepdim", function(x) return x:prod(-1, true) * x end, any(2, 3))
case("prod beside zeros", function(x)
  return (x * on_device_of(x, {{1, 1, 1}, {1, 0, 1}, {0, 1, 0}})):prod(2)
end, any(3, 3))
for _, p in ipairs {0, 1, 1.5, 2, 3, math.huge, -math.huge} do
  case("norm " .. p, function(x)
    local y = x + 0.03 -- no two magnitudes are the same
    return y:norm(p, 1, true) + y:norm(p) * x
  end, apart(3, 4)).step = 0.01
end
case("var", function(x) return x:var() * x + x:var(2, {correction = 0, keepdim = true}) end, any(3, 4))
case("std", function(x) return x:std() * x + x:std(1, {correction = 0}) end, any(3, 4)).step = 0.01
case("logsumexp", function(x) return x:logsumexp() * x + x:logsumexp(1, true) end, any(3, 4))
for dimension = 1, 3 do
  case("cumsum " .. dimension, function(x) return x:cumsum(dimension) * x end, any(2, 3, 4))
  case("cumprod " .. dimension, function(x) return x:cumprod(dimension) end, any(2, 3, 4))
end
case("cumprod beside zeros", function(x)
  return (x * on_device_of(x, {{1, 1, 1, 1}, {1, 0, 1, 1}, {0, 1, 0, 1}}, "f32")):cumprod(2)
end, any(3, 4))
case("sort", function(x) return x:sort(1) * x end, apart(4, 3))
case("sort, descending", function(x) return x:sort(-1, true) * x end, apart(3, 4))
case("topk", function(x) return x:topk(2, 2) * x:narrow(2, 1, 2) end, apart(3, 4))
case("kthvalue", function(x) return x:kthvalue(2, 1, true) * x end, apart(3, 4))
case("median", function(x) return x:median() * x + x:median(2, true) end, apart(3, 4))
case("quantile", function(x) return x:quantile(0.3) * x + x:quantile(0.7, 1) end, apart(3, 4))
for dimension = 1, 3 do
  case("softmax " .. dimension, function(x) return x:softmax(dimension) end, any(2, 3, 4))
  case("log_softmax " .. dimension, function(x) return x:log_softmax(dimension) end, any(2, 3, 4))
end
for _, reduction in ipairs {"mean", "sum", "none"} do
  case("cross_entropy, " .. reduction, function(x)
    return fp8.cross_entropy(x, on_device_of(x, {2, 0, 3}), {reduction = reduction})
  end, any(3, 4))
end

case("cross_entropy with options", function(x)
  local options = {
    ignore_index = -1, label_smoothing = 0.3, class_weight = fp8.tensor({0.5, 2, 1, 1.5}, {device = x.device}),
  }
  return fp8.cross_entropy(x, on_device_of(x, {2, -1, 3}), options)
end, any(3, 4))
case("cross_entropy of logits (n, classes, …)", function(x)
  return fp8.cross_entropy(x, on_device_of(x, {{2, 0}, {1, 1}}), {reduction = "none", label_smoothing = 0.2})
end, any(2, 3, 2))
case("cross_entropy of probabilities", function(x, shares)
  local weight = fp8.tensor({0.5, 2, 1}, {device = x.device})
  return fp8.cross_entropy(x, shares, {weight = weight, label_smoothing = 0.2})
end, any(2, 3, 2), any(2, 3, 2))
for _, reduction in ipairs {"mean", "none"} do
  case("linear_cross_entropy, " .. reduction, function(x, w, b)
    return fp8.linear_cross_entropy(x, w, on_device_of(x, {2, -1, 0, 3, 1}),
      {bias = b, rows = 2, ignore_index = -1, label_smoothing = 0.2, reduction = reduction})
  end, any(5, 3), any(4, 3), any(4))
end

-- Layers.
case("layer_norm", function(x, w, b) return fp8.layer_norm(x, w, b) end, any(2, 3, 8), any(8), any(8)).step = 0.01
case("layer_norm without parameters", function(x) return fp8.layer_norm(x, nil, nil, 0.1) end, any(3, 5)).step = 0.01
case("rms_norm", function(x, w) return fp8.rms_norm(x, w, 0.01) end, any(3, 8), any(8)).step = 0.01
case("rms_norm of odd rows", function(x, w) return fp8.rms_norm(x, w) end, above_zero(2, 3), any(3)).step = 0.01
case("layer_norm in a residual stream", function(x, w)
  local y = x + fp8.layer_norm(x, w) * 2
  return y + fp8.rms_norm(y, w):exp()
end, any(3, 8), any(8)).step = 0.01
case("dropout", function(x)
  fp8.manual_seed(5)
  return fp8.dropout(x, 0.4):exp()
end, any(3, 4))
case("embedding", function(w) return fp8.embedding(w, on_device_of(w, {{2, 0}, {2, 3}})):exp() end, any(4, 3))
for _, causal in ipairs {false, true} do
  local name = causal and ", causal" or ""
  case("attention" .. name, function(q, k, v) return fp8.attention(q, k, v, {causal = causal, scale = 0.8}) end,
    any(2, 3, 4), any(2, 5, 4), any(2, 5, 2)).step = 0.01
  case("attention to itself" .. name, function(x) return fp8.self_attention(x, 2, {causal = causal}) end,
    any(2, 4, 12)).step = 0.01
end
case("attention under a mask", function(q, k, v, mask)
  return fp8.attention(q, k, v, {mask = mask, causal = true})
end, any(2, 3, 4), any(2, 5, 4), any(2, 5, 2), any(2, 1, 5)).step = 0.01
case("attention to itself under a mask", function(x, mask) return fp8.self_attention(x, 2, {mask = mask}) end,
  any(2, 4, 12), any(4, 4)).step = 0.01
case("attention to itself with shared heads and rotary embedding", function(x)
  return fp8.self_attention(x, 4, {kv_heads = 2, rotary = {interleaved = true}, causal = true})
end, any(2, 3, 32)).step = 0.01
case("attention with shared heads", function(q, k, v)
  return fp8.attention(q, k, v, {enable_gqa = true, causal = true})
end, any(4, 3, 4), any(2, 5, 4), any(2, 5, 2)).step = 0.01
case("rotary embedding", function(x) return fp8.rotary_embedding(x, {offset = 3, interleaved = true}) end, any(2, 3, 4))
case("rotary embedding of positions before heads", function(x)
  return fp8.rotary_embedding(x, {dimension = 2, base = 100})
end, any(2, 3, 2, 4))
for _, class in ipairs {"GRU", "LSTM"} do
  case(class, function(x, hidden, cell, weight)
    local layer = fp8.nn[class](3, 2, {bidirectional = true, device = x.device})
    fp8.no_grad(function()
      for i, parameter in ipairs(layer:parameters()) do
        parameter:copy_((fp8.arange(parameter:numel(), {dtype = "f32", device = x.device}) * 0.7 + i):sin():view(
          parameter.shape))
      end
    end)
    layer.weight_hh_l0_reverse = weight:narrow(1, 1, 2 * layer.gates)
    local y, last = layer(x, class == "LSTM" and {hidden, cell} or hidden)
    return y * (class == "LSTM" and last[2] or last * cell):sum(1, true):sum(-1, true)
  end, any(4, 2, 3), any(2, 2, 2), any(2, 2, 2), any(8, 2)).step = 0.01
end
case("attention with dropout", function(q, k, v)
  fp8.manual_seed(6)
  return fp8.attention(q, k, v, {dropout = 0.3})
end, any(2, 3, 4), any(2, 5, 4), any(2, 5, 2)).step = 0.01

-- Products.
local function matmul(a, b) return a:matmul(b) end
case("matmul", matmul, any(3, 4), any(4, 2))
case("matmul of transposed views", function(a, b) return a:t():matmul(b:t()) end, any(4, 3), any(2, 4))
case("batched matmul", matmul, any(2, 3, 4), any(2, 4, 2))
case("batched matmul, broadcast", matmul, any(2, 1, 3, 2), any(3, 2, 2))
case("a batch times one matrix", matmul, any(2, 3, 2), any(2, 3))
case("one matrix times a batch", matmul, any(2, 3), any(2, 3, 2))
case("vector · vector", matmul, any(4), any(4))
case("vector · matrix", matmul, any(3), any(3, 2))
case("matrix · vector", matmul, any(2, 3), any(3))
case("batch · vector", matmul, any(2, 2, 3), any(3))
case("vector · batch", matmul, any(3), any(2, 3, 2))
case("x · xᵀ", function(x) return x:matmul(x:t()) end, any(3, 2))

case("outer", function(x, y) return x:outer(y) end, any(3), any(2))
case("bmm", function(x, y) return x:bmm(y) end, any(2, 3, 4), any(2, 4, 2))
case("mv and dot", function(x, y) return x:mv(y):dot(x:select(2, 1)) end, any(3, 2), any(2))
case("addmm", function(x, a, b) return x:addmm(a, b, {alpha = 0.5}) + x:addmm(b:t(), a:t(), {beta = 2}) end, any(1, 3),
  any(3, 2), any(2, 3))
case("baddbmm", function(x, a, b) return x:baddbmm(a, b) end, any(2), any(2, 3, 4), any(2, 4, 2))

-- Views and joining.
case("view", function(x) return x:view(3, -1) * x:view(3, 4) end, any(2, 6))
case("reshape of a transposed tensor", function(x) return x:t():reshape(4) * x:view(4) end, any(2, 2))
case("flatten", function(x) return x:flatten() end, any(2, 3))
case("transpose", function(x) return x:transpose(1, 3) * x:transpose(-1, 1) end, any(2, 3, 2))
case("permute", function(x) return x:permute(3, 1, 2):exp() end, any(2, 3, 2))
case("narrow", function(x) return x:narrow(2, 2, 2) * x:narrow(2, 1, 2) end, any(2, 3))
case("select", function(x) return x:select(1, 2) * x:select(1, -1) + x:select(1, 1) end, any(3, 2))
case("expand", function(x) return x:expand(2, 3, 2):exp() end, any(3, 1))
case("squeeze and unsqueeze", function(x) return x:squeeze():unsqueeze(2) * x:unsqueeze(1):squeeze(1) end, any(2, 1))
case("chunk and split", function(x)
  local first, second = x:chunk(2, 2), x:split({1, 2})
  return first[1]:exp() + first[2] * second[1]:narrow(2, 1, 2) + second[2]:sum()
end, any(3, 4))
case("unbind", function(x) return x:unbind(2)[3] * x:unbind()[1]:sum() end, any(2, 3))
case("movedim and swapaxes", function(x)
  return x:movedim(1, 3):exp() + x:swapaxes(1, 3):transpose(1, 2)
end, any(3, 2, 2))
case("tile", function(x) return x:tile(2, 1, 3):exp() * x:tile(3) end, any(2, 1))
case("flip", function(x) return x:flip(1, -1) * x + x:flip(2):exp() end, any(2, 3))
case("roll", function(x) return x:roll(4) * x + x:roll({1, -1}, {1, 2}):exp() end, any(2, 3))
case("triu and tril", function(x) return x:triu(1):exp() + x:tril(-1) * x end, any(2, 3, 3))
case("diag", function(x, y) return x:diag(1) * y + y:diag(-1):sum() end, any(2), any(3, 3))
case("meshgrid", function(x, y)
  local grids = fp8.meshgrid({x, y}, "xy")
  return grids[1] * grids[2]:exp()
end, any(2), any(3))
case("cat", function(x, y) return fp8.cat({x, y, x}, 2):exp() end, any(2, 1), any(2, 2))
case("stack", function(x, y) return fp8.stack({x, y, y}, 2):exp() end, any(2, 2), any(2, 2))
case("windows of a dimension", function(x) return x:unfold(2, 2, 1):exp() * x:unfold(2, 3, 1):sum() end, any(2, 4))
case("windows of windows", function(x) return x:unfold(1, 2, 2):unfold(1, 2, 1):exp() end, any(5, 2))
case("unfold and fold", function(x)
  local columns = fp8.unfold(x, {2, 1}, {padding = {1, 0}, stride = {1, 2}, dilation = {2, 1}})
  return fp8.fold(columns:exp(), {4, 3}, {2, 1}, {padding = {1, 0}, stride = {1, 2}, dilation = {2, 1}})
end, any(2, 4, 3))
for _, mode in ipairs {"constant", "reflect", "replicate", "circular"} do
  case("pad, " .. mode, function(x) return x:pad({2, -1, 1, 1}, mode):exp() end, any(3, 4))
end
case("max_pool2d", function(x) return fp8.max_pool2d(x, {2, 3}, {stride = 1, padding = {0, 1}}):exp() end,
  apart(1, 3, 4))
case("max_pool1d", function(x) return fp8.max_pool1d(x, 2, {dilation = 2, stride = 1}):exp() end, apart(2, 1, 5))
case("avg_pool2d", function(x) return fp8.avg_pool2d(x, 3, 2, 1, true, false):exp() end, any(2, 4, 5))
case("adaptive pooling", function(x)
  return fp8.adaptive_avg_pool2d(x, {2, 3}):exp() * fp8.adaptive_max_pool2d(x, {2, 3})
end, apart(1, 3, 4))
case("conv2d", function(x, w, b) return fp8.conv2d(x, w, b, {padding = 1}):sin() end, any(2, 2, 3, 3), any(3, 2, 2, 2),
  any(3))
case("conv2d in steps, of groups", function(x, w)
  return fp8.conv2d(x, w, nil, {padding = 1, stride = {1, 2}, dilation = {2, 1}, groups = 2}):sin()
end, any(2, 2, 4, 3), any(4, 1, 2, 2))
case("conv1d", function(x, w, b) return fp8.conv1d(x, w, b, {padding = "same"}):sin() end, any(1, 4), any(4, 1, 3),
  any(4))
local function normalized(x, weight, bias, layer)
  layer.weight, layer.bias = weight, bias
  return layer(x):sin()
end
case("batch normalization", function(x, w, b)
  return normalized(x, w, b, fp8.nn.BatchNorm1d(2, {device = x.device}))
end, any(3, 2, 2), any(2), any(2)).step = 0.01
case("batch normalization of running statistics", function(x, w, b)
  return normalized(x, w, b, fp8.nn.BatchNorm1d(2, {device = x.device}):eval())
end, any(3, 2), any(2), any(2)).step = 0.01
case("group normalization", function(x, w, b)
  return normalized(x, w, b, fp8.nn.GroupNorm(2, 4, {device = x.device}))
end, any(2, 4, 2), any(4), any(4)).step = 0.01
case("index_select with repeated positions", function(x)
  return x:index_select(1, on_device_of(x, {2, 0, 2, 2})):exp()
end, any(3, 2))
case("index_select of columns", function(x) return x:index_select(-1, on_device_of(x, {1, 1})) end, any(2, 3, 2))
case("gather with repeated positions", function(x)
  return x:gather(2, on_device_of(x, {{0, 2, 2}, {1, 1, 1}})):exp()
end, any(2, 3))

case("scatter and scatter_add", function(x, s)
  return x:scatter(2, on_device_of(x, {{0, 2}, {1, 0}}), s):exp() + x:scatter_add(1, on_device_of(x, {{1, 1, 1}}), s)
end, any(2, 3), any(2, 3))
for _, rule in ipairs {"sum", "prod", "amax", "amin"} do
  for _, include_self in ipairs {true, false} do
    case(("scatter_reduce by %s%s"):format(rule, include_self and "" or " without what is there"), function(x)
      local start, source = x[{{1, 3}}], x[{{4, 7}}]
      local y = start:scatter_reduce(1, on_device_of(x, {0, 2, 2, 2}), source, rule, {include_self = include_self})
      return y:square()
    end, apart(7))
  end
end
case("index_add, index_copy and index_fill", function(x, s)
  local positions = on_device_of(x, {2, 0})
  return x:index_add(2, positions, s, {alpha = -2}):exp() +
    x:index_copy(2, positions, s) * x:index_fill(-1, positions, 3)
end, any(2, 3), any(2, 2))
case("index_put", function(x, v)
  local i, j = on_device_of(x, {{1}, {0}}), on_device_of(x, {2, 0})
  return x:index_put({i, j}, v):exp() + x:index_put({i, j}, v, true)
end, any(2, 3, 2), any(2, 1))
case("take, take_along_dim and a mask", function(x)
  local mask = on_device_of(x, {{1, 0, 1}, {1, 0, 1}}, "u8")
  return x:take(on_device_of(x, {5, 5, 0, 1})) * x[mask]:exp() +
    x:take_along_dim(on_device_of(x, {{2, 0}}), 2):reshape(-1)
end, any(2, 3))
case("masked_scatter", function(x, s) return x:masked_scatter(on_device_of(x, {1, 0, 1}, "u8"), s):exp() end,
  any(2, 3), any(5))
case("assignment to rows, slices, masks and indices", function(x, y)
  local z = x * 2
  z[1] = z[2] * 3 + y[1]
  z[{{2, 3}, -1}] = y
  z[on_device_of(x, {{0, 1, 0}, {1, 0, 0}, {0, 0, 0}}, "u8")] = y * 3
  z[on_device_of(x, {2})] = z[on_device_of(x, {1})] + y[2]
  return z:square()
end, any(3, 3), any(2))
case("einsum", function(x, y, z) return fp8.einsum("iij,jk,kl->il", x, y, z) end, any(2, 2, 3), any(3, 2), any(2, 2))

local function make_inputs(inputs)
  fp8.manual_seed(#inputs)
  local made = {}
  for i, make in ipairs(inputs) do made[i] = make() end
  return made
end

--- The gradients of sum(f(inputs) · weights) for fixed random weights.
local function gradients(f, inputs, device)
  local leaves = {}
  for i, input in ipairs(inputs) do leaves[i] = input:to(device):clone():requires_grad_() end
  local y = f(unpack(leaves))
  assert.is_true(y.requires_grad)
  fp8.manual_seed(7)
  local weights = fp8.randn(y.shape)
  y:backward(weights:to(device))
  local grads = {}
  for i, leaf in ipairs(leaves) do
    assert.same(leaf.shape, leaf.grad.shape)
    assert.equal(leaf.device, leaf.grad.device)
    grads[i] = leaf.grad:to "cpu"
  end
  return grads, support.flat(weights)
end

--- d sum(f(inputs) · weights) / d inputs[which], by differences of the fourth order; the sum is taken in double.
local function differences(f, inputs, which, weights, step)
  local x = inputs[which]
  local p = ffi.cast("float *", x:data())
  local grad = fp8.empty(x.shape)
  local function value_at(i, moved)
    local kept = p[i]
    p[i] = moved
    local y = support.flat(f(unpack(inputs)))
    local at = p[i]
    p[i] = kept
    local sum = 0
    for k = 1, #weights do sum = sum + y[k] * weights[k] end
    return sum, at
  end
  local slopes = {}
  for i = 0, x:numel() - 1 do
    local function slope(h)
      local high, from = value_at(i, p[i] + h)
      local low, to = value_at(i, p[i] - h)
      return (high - low) / (from - to)
    end
    slopes[i + 1] = (4 * slope(step) - slope(2 * step)) / 3
  end
  local out = grad:data()
  for i, value in ipairs(slopes) do out[i - 1] = value end
  return grad
end

describe("The derivative of", function()
  for _, c in ipairs(cases) do
    it(c.name .. " agrees with differences", function()
      local inputs = make_inputs(c.inputs)
      local grads, weights = gradients(c.f, inputs, "cpu")
      for i = 1, #inputs do
        support.close(grads[i], differences(c.f, inputs, i, weights, c.step or 0.02), 1e-3)
      end
    end)
  end
end)

describe("A gradient computed", function()
  for _, device in ipairs(support.devices) do
    if device ~= "cpu" then
      for _, c in ipairs(cases) do
        it("on " .. device .. " equals the CPU's: " .. c.name, function()
          local inputs = make_inputs(c.inputs)
          local expected, actual = gradients(c.f, inputs, "cpu"), gradients(c.f, inputs, device)
          for i = 1, #inputs do support.close(actual[i], expected[i], 1e-5) end
        end)
      end
    end
  end
end)

support.each_device(function(device)
  describe("A gradient", function()
    local function gradient(f, list, grad, dtype)
      local x = fp8.tensor(list, {device = device, dtype = dtype, requires_grad = true})
      local y = f(x)
      y:backward(fp8.tensor(grad, {device = device}))
      return x.grad:totable()
    end

    local function on(list, dtype) return fp8.tensor(list, {device = device, dtype = dtype}) end

    it("is 0 where the result does not depend on an element, whatever arrives", function()
      local inf = math.huge
      assert.same({0, inf, 0}, gradient(function(x) return x:max() end, {1, 3, 2}, inf))
      assert.same({-inf, 0, 0}, gradient(function(x) return x:min(1, true) end, {1, 3, 2}, {-inf}))
      assert.same({0, 0}, gradient(function(x) return x ^ 0 end, {0, 3}, {inf, 0 / 0}))
      assert.same({0, 0, inf}, gradient(function(x) return x ^ on {0, 0, 1} end, {0, 3, 2}, {inf, -inf, inf}))
      assert.same({0, 0}, gradient(function(x) return on {0, 0} ^ x end, {0, 3}, {inf, -inf}))
    end)

    it("of a power by its exponent keeps the bits of the logarithm", function()
      for _, dtype in ipairs {"e4m3", "bf16", "f16"} do
        local found = gradient(function(x) return on({0.34375}, dtype) ^ x end, {1.5}, {1})
        assert.is_true(math.abs(found[1] / (0.34375 ^ 1.5 * math.log(0.34375)) - 1) < 1e-6)
      end
    end)

    it("of a power keeps an exponent's bits that 16 bits have no room for when it is 1 less", function()
      local exponent = -0.64453125
      local expected = exponent * 0.0625 ^ (exponent - 1)
      local mixed = gradient(function(x) return x ^ on({exponent}, "bf16") end, {0.0625}, {1}, "f32")
      assert.is_true(math.abs(mixed[1] / expected - 1) < 1e-6)
      for _, power in ipairs {exponent, on({exponent}, "bf16")} do
        local narrow = gradient(function(x) return x ^ power end, {0.0625}, {1}, "bf16")
        assert.is_true(math.abs(narrow[1] / expected - 1) < 2 ^ -8)
      end
    end)

    it("of a power takes its number as the tensor's dtype has it", function()
      -- -1e-7 is -2^-23 in f16.
      local found = gradient(function(x) return x ^ -1e-7 end, {0.5, 2}, {1, 1}, "f16")
      assert.same({-2 ^ -22, -2 ^ -24}, found)
    end)
  end)
end)

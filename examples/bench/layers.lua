--- Every kernel of the layers of a transformer against a copy on the same device. Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "?.lua;" .. package.path

local fp8 = require "fp8"
local core = require "fp8.core"
local measure = require "measure"

local usage = [[
usage: luajit examples/bench/layers.lua [options]
  --device NAME     cpu, cuda, cuda:1, … (default: cuda where it works, else cpu)
  --dtype LIST      f32, f16, bf16 (default bf16)
  --rows N          tokens (default 32768, on the CPU 1024)
  --features N      width of the model (default 768)
  --vocabulary N    number of classes and words (default 50304, on the CPU 5000)
  --positions N     of a sequence, for the softmax of attention (default 1024, on the CPU 128)
  --steps N         samples of a measurement, whose median is printed (default 50)
  --help            this text

Each line: microseconds, GB/s (1e9 bytes that have to be read and written a second), and the share of a copy's GB/s.
]]

local element_bytes = {f32 = 4, f16 = 2, bf16 = 2}

local function bench(dtype, options)
  local device, rows, features = options.device, options.rows, options.features
  local d, place = element_bytes[dtype], {dtype = dtype, device = device}
  local function random(...) return core.randn({...}, place) end

  local function seconds_of(call)
    return measure.time(function() measure.free(call()) end, options) * 1e-6
  end

  local copy
  local function line(name, bytes, call)
    local seconds = seconds_of(call)
    local padded = name .. (" "):rep(42 - #name:gsub("[\128-\191]", "")) -- by characters, not bytes
    print(("%s %9.1f µs %8.0f GB/s %6.2f"):format(padded, seconds * 1e6, bytes / seconds * 1e-9,
      bytes / seconds / copy))
  end

  local x, dy = random(rows, features), random(rows, features)
  local count = rows * features
  -- A copy of as much as the largest tensors below hold would be no faster.
  local wide, wide_dy = random(rows, 4 * features), random(rows, 4 * features)
  local target = core.empty({rows, 4 * features}, place)
  copy = 8 * d * count / seconds_of(function() core.copy_(target, wide) end)
  measure.free(target)
  print(("\n%s, %d rows of %d features: a copy moves %.0f GB/s"):format(dtype, rows, features, copy * 1e-9))

  local weight, bias = random(features), random(features)
  local _, mean, inverse = core.layer_norm(x, weight, bias, 1e-5)
  line("layer_norm", 2 * d * count, function() return core.layer_norm(x, weight, bias, 1e-5) end)
  line("layer_norm, gradients of all", 3 * d * count, function()
    return core.normalize_backward {
      dy = dy, x = x, mean = mean, inverse = inverse, weight = weight, want_x = true, want_weight = true,
      bias_dtype = dtype,
    }
  end)
  line("… and of a residual stream", 4 * d * count, function()
    return core.normalize_backward {
      dy = dy, x = x, mean = mean, inverse = inverse, weight = weight, want_x = true, want_weight = true,
      bias_dtype = dtype, addend = wide:view(4 * rows, -1):narrow(1, 1, rows),
    }
  end)
  line("rms_norm", 2 * d * count, function() return core.rms_norm(x, weight, 1e-5) end)
  line("rms_norm, gradients of all", 3 * d * count, function()
    return core.normalize_backward {
      dy = dy, x = x, inverse = inverse, weight = weight, want_x = true, want_weight = true,
    }
  end)
  line("add", 3 * d * count, function() return core.add(x, dy) end)
  line("dropout", 2 * d * count, function() return core.dropout(x, 0.1) end)
  for _, name in ipairs {"gelu", "gelu_tanh", "silu"} do
    line(name .. ", 4 × the features", 8 * d * count, function() return core[name](wide) end)
    line(name .. ", gradient", 12 * d * count, function() return core[name .. "_backward"](wide_dy, wide) end)
  end
  measure.free(wide, wide_dy)

  local words = options.vocabulary
  local tokens = core.randint(0, words, {rows}, {device = device, dtype = "i64"})
  local frequent = core.to(core.mul(core.pow(core.rand({rows}, {device = device}), 8), words), {dtype = "i64"})
  local embedding = random(words, features)
  line("embedding", 2 * d * count, function() return core.embedding(embedding, tokens) end)
  local function embedding_gradient(index)
    return function() return core.index_add({words, features}, 1, index, dy, dtype) end
  end
  line("embedding, gradient", d * (count + words * features), embedding_gradient(tokens))
  line("… of words some of which are frequent", d * (count + words * features), embedding_gradient(frequent))
  measure.free(embedding, x, dy)

  -- Logits of as many rows as make four times the tokens' features, so that small machines take part.
  local logit_rows = math.max(1, math.min(rows, math.floor(16 * count / words)))
  local logits = random(logit_rows, words)
  local labels = core.narrow(tokens, 1, 1, logit_rows)
  local loss, statistics = core.cross_entropy(logits, labels)
  line(("cross_entropy, %d rows"):format(logit_rows), d * logit_rows * words, function()
    return core.cross_entropy(logits, labels)
  end)
  line("cross_entropy, gradient", 2 * d * logit_rows * words, function()
    return core.cross_entropy_backward(logits, labels, statistics, loss)
  end)
  line("cross_entropy with its gradient", 2 * d * logit_rows * words, function()
    return core.cross_entropy(logits, labels, nil, loss)
  end)
  measure.free(logits)

  local positions = options.positions
  local matrices = math.max(1, math.floor(16 * count / positions ^ 2))
  local scores = random(matrices, positions, positions)
  local probabilities = core.attention_softmax_(core.clone(scores), 0.1, true)
  local entries = matrices * positions ^ 2
  for _, causal in ipairs {false, true} do
    local name = ("attention's softmax, %d × %d%s"):format(positions, positions, causal and ", causal" or "")
    line(name, d * entries * (causal and 1.5 or 2), function()
      core.attention_softmax_(scores, 0.1, causal)
    end)
    line("… gradient", d * entries * (causal and 2 or 3), function()
      core.attention_softmax_backward_(scores, probabilities, 0.1, causal)
    end)
  end
end

measure.main(function()
  local whole = measure.whole
  local options = measure.options(usage, {
    device = tostring, dtype = measure.names(element_bytes), rows = whole, features = whole, vocabulary = whole,
    positions = whole, steps = whole,
  }, {dtype = {"bf16"}, features = 768, steps = 50})
  options.device = options.device or measure.default_device()
  local on_cpu = options.device == "cpu"
  options.rows = options.rows or (on_cpu and 1024 or 32768)
  options.vocabulary = options.vocabulary or (on_cpu and 5000 or 50304)
  options.positions = options.positions or (on_cpu and 128 or 1024)
  options.samples, options.seconds = options.steps, on_cpu and 0.15 or 3
  options.sustained = true -- work for the memory leaves a GPU below its power limit
  print(("%s; share of a copy, medians of up to %d"):format(measure.device_name(options.device), options.samples))
  fp8.manual_seed(1)
  for _, dtype in ipairs(options.dtype) do bench(dtype, options) end
end)

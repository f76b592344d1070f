-- Layers and their functions against PyTorch: outputs and all gradients (spec/fixtures/nn.py).
local fp8 = require "fp8"
local support = require "spec.support"
local layer_cases = require "spec.support.layer_cases"

local nn = fp8.nn
local tensors = fp8.load(support.fixture "nn.safetensors")

--- How many tolerances a result may be off: 16-bit inputs were rounded already, and some layers are several operations
-- deep.
local function depth_of(case, dtype)
  local deep = case:find "^attention" or case:find "^multi_head" or case:find "^transformer" or case:find "^mlp"
  return dtype == "f32" and 1 or deep and 3 or 2
end

local function compare(case, f, device, dtype)
  layer_cases.compare(tensors, case, f, {
    device = device, dtype = dtype, result_dtype = case == "cross_entropy" and "f32" or dtype,
    depth = depth_of(case, dtype),
  })
end

local functions = {
  gelu = function(t) return fp8.gelu(t.x) end,
  gelu_tanh = function(t) return fp8.gelu(t.x, "tanh") end,
  silu = function(t) return fp8.silu(t.x) end,
  embedding = function(t) return fp8.embedding(t.weight, t.indices) end,
  attention = function(t) return fp8.attention(t.q, t.k, t.v) end,
  ["attention.causal"] = function(t) return fp8.attention(t.q, t.k, t.v, {causal = true}) end,
  ["attention.scale"] = function(t) return fp8.attention(t.q, t.k, t.v, {scale = 0.9}) end,
  ["attention.cross"] = function(t) return fp8.attention(t.q, t.k, t.v, {}) end,
  ["attention.causal_long"] = function(t) return fp8.attention(t.q, t.k, t.v, {scale = 0.7, causal = true}) end,
  cross_entropy = function(t) return fp8.cross_entropy(t.logits, t.targets) end,
}
for _, kind in ipairs {"", ".odd", ".long"} do
  functions["layer_norm" .. kind] = function(t) return fp8.layer_norm(t.x, t.weight, t.bias) end
  functions["rms_norm" .. kind] = function(t) return fp8.rms_norm(t.x, t.weight, 1e-3) end
end
functions["layer_norm.plain"] = function(t) return fp8.layer_norm(t.x, nil, nil, 1e-2) end
functions["rms_norm.plain"] = function(t) return fp8.rms_norm(t.x) end

--- PyTorch's name for a parameter of ours.
local renamed = {
  {"^attention%.", "self_attn."}, {"in_proj%.weight", "in_proj_weight"}, {"in_proj%.bias", "in_proj_bias"},
  {"^mlp%.fc(%d)", "linear%1"}, {"^fc1", "0"}, {"^fc2", "2"},
}

local function pytorch_name(name)
  for _, rule in ipairs(renamed) do name = name:gsub(rule[1], rule[2]) end
  return name
end

--- A function that calls a module with the parameters of the case in place of its own.
local function with_parameters(make)
  return function(t)
    local module = make(t.x)
    local parts = {}
    local function replace(part, prefix)
      for name, child in part:children() do replace(child, prefix .. name .. ".") end
      for _, field in ipairs {"weight", "bias"} do
        if part[field] then
          local name = pytorch_name(prefix .. field)
          assert.same(part[field].shape, t[name].shape)
          part[field] = t[name]
          parts[name] = true
        end
      end
    end
    replace(module, "")
    for name in pairs(t) do assert.is_true(name == "x" or parts[name], name) end
    return module(t.x)
  end
end

local modules = {
  multi_head_attention = function(on) return nn.MultiHeadAttention(12, 3, on) end,
  ["multi_head_attention.causal"] = function(on)
    on.causal = true
    return nn.MultiHeadAttention(12, 3, on)
  end,
  ["multi_head_attention.no_bias"] = function(on)
    on.causal, on.bias = true, false
    return nn.MultiHeadAttention(12, 3, on)
  end,
  transformer_block = function(on)
    on.hidden = 20
    return nn.TransformerBlock(12, 3, on)
  end,
  ["transformer_block.causal"] = function(on)
    on.hidden, on.activation, on.causal = 20, "gelu_tanh", true
    return nn.TransformerBlock(12, 3, on)
  end,
  mlp = function(on)
    on.activation = "silu"
    return nn.MLP(6, 10, on)
  end,
}
for name, make in support.sorted_pairs(modules) do
  functions[name] = with_parameters(function(x) return make {device = x.device, dtype = x.dtype} end)
end

support.each_device(function(device)
  describe("PyTorch's numbers come out of", function()
    for name, f in support.sorted_pairs(functions) do
      for _, dtype in ipairs {"f32", "f16", "bf16"} do
        it(("%s, %s"):format(name, dtype), function() compare(name, f, device, dtype) end)
      end
    end
  end)

  it("There is no case without a check", function()
    for name in pairs(tensors) do
      local case = name:match "^(.*)%.y$"
      assert.is_truthy(not case or functions[case], case)
    end
  end)
end)

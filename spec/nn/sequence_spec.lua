-- What has to do with sequences against PyTorch (spec/fixtures/sequence.py): attention under masks, with shared heads,
-- rotary embedding, recurrent layers, and modules under masks. Outputs and all gradients.
local fp8 = require "fp8"
local support = require "spec.support"
local layer_cases = require "spec.support.layer_cases"

local nn = fp8.nn
local tensors = fp8.load(support.fixture "sequence.safetensors")

local function compare(case, f, device, dtype)
  -- The states of recurrent layers are rounded at every step.
  local depth = dtype == "f32" and 1 or case:find "^%a+%.deep" and 6 or 3
  layer_cases.compare(tensors, case, f, {device = device, dtype = dtype, result_dtype = dtype, depth = depth})
end

local function attention(options)
  return function(t)
    options.mask, options.enable_gqa = t.mask, t.k:size(2) < t.q:size(2)
    return fp8.attention(t.q, t.k, t.v, options)
  end
end

local function flat(list)
  for i, tensor in ipairs(list) do list[i] = tensor:reshape(-1) end
  return fp8.cat(list)
end

--- A module with the parameters of a case, found by their names.
local function with_parameters(module, t, prefix)
  for name, child in module:children() do with_parameters(child, t, (prefix or "") .. name .. ".") end
  for field, value in pairs(module) do
    if fp8.is_tensor(value) then
      local name = ((prefix or "") .. field):gsub("in_proj%.", "in_proj_"):gsub("^attention%.", "self_attn.")
        :gsub("^mlp%.fc", "linear")
      assert.same(value.shape, t[name].shape)
      module[field] = t[name]
    end
  end
  return module
end

local function recurrent(class, options)
  return function(t)
    local own = {device = t.x.device, dtype = t.x.dtype}
    for name, value in pairs(options or {}) do own[name] = value end
    local module = with_parameters(nn[class](5, 4, own), t)
    if class == "GRU" or class == "GRUCell" then return flat {module(t.x, t.h0)} end
    local y, last = module(t.x, {t.h0, t.c0})
    return flat(class == "LSTM" and {y, last[1], last[2]} or {y, last})
  end
end

local deep = {num_layers = 2, bidirectional = true, batch_first = true}
local functions = {
  ["attention.chosen"] = attention {}, ["attention.added"] = attention {scale = 0.4},
  ["attention.each_head"] = attention {}, ["attention.row"] = attention {},
  ["attention.grouped"] = attention {}, ["attention.grouped_chosen"] = attention {},
  ["attention.grouped_added"] = attention {}, ["attention.grouped_causal"] = attention {causal = true},
  ["attention.causal_added"] = attention {causal = true},
  ["rotary_embedding.halves"] = function(t) return fp8.rotary_embedding(t.x) end,
  ["rotary_embedding.interleaved"] = function(t) return nn.RotaryEmbedding(8, {interleaved = true})(t.x) end,
  ["rotary_embedding.offset"] = function(t) return nn.RotaryEmbedding(6, {base = 5e5})(t.x, {offset = 1e5}) end,
  gru = recurrent "GRU", lstm = recurrent "LSTM", ["gru.deep"] = recurrent("GRU", deep),
  ["lstm.deep"] = recurrent("LSTM", deep), ["gru.no_bias"] = recurrent("GRU", {bias = false}),
  ["lstm.no_bias"] = recurrent("LSTM", {bias = false}), ["gru.single"] = recurrent "GRU",
  ["lstm.single"] = recurrent "LSTM",
  gru_cell = function(t) return recurrent("GRUCell")(t):view(3, 4) end, lstm_cell = recurrent "LSTMCell",
  ["multi_head_attention.masked"] = function(t)
    local module = nn.MultiHeadAttention(12, 3, {device = t.x.device, dtype = t.x.dtype})
    return with_parameters(module, t)(t.x, {mask = t.mask, key_padding_mask = t.padding})
  end,
  ["transformer_block.post_norm"] = function(t)
    local options = {hidden = 20, norm_first = false, device = t.x.device, dtype = t.x.dtype}
    return with_parameters(nn.TransformerBlock(12, 3, options), t)(t.x, {key_padding_mask = t.padding})
  end,
}

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

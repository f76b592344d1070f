-- Attention modules: options, masks, rotary embedding, and a cache that continues a text. (nn/sequence_spec compares
-- with PyTorch.)
local fp8 = require "fp8"
local support = require "spec.support"

local nn, fails = fp8.nn, support.fails

support.each_device(function(device)
  local on = {device = device}

  local function options(extra)
    extra.device = extra.device or device
    return extra
  end

  describe("A key-value cache", function()
    local variants = {
      {}, {kv_heads = 2}, {kv_heads = 1, rotary = true}, {rotary = {interleaved = true, base = 100}}, {causal = false},
    }

    it("gives in steps what the whole sequence gives at once", function()
      for _, dtype in ipairs {"f32", "bf16"} do
        for _, variant in ipairs(variants) do
          local own = options {causal = true, dtype = dtype}
          for name, value in pairs(variant) do own[name] = value end
          local blocks = {nn.TransformerBlock(64, 4, own), nn.TransformerBlock(64, 4, own)}
          local x = fp8.randn(2, 9, 64, {device = device, dtype = dtype})
          local function run(input, cache)
            for _, block in ipairs(blocks) do input = block(input, {cache = cache}) end
            return input
          end
          fp8.no_grad(function()
            local cache, pieces, first = nn.KeyValueCache(), {}, 1
            for _, length in ipairs {4, 1, 1, 3} do
              assert.equal(first - 1, cache:length())
              pieces[#pieces + 1] = run(x:narrow(2, first, length), cache)
              first = first + length
            end
            assert.equal("KeyValueCache(9 positions)", tostring(cache))
            local y = fp8.cat(pieces, 2)
            if own.causal then
              support.close(y, run(x), support.tolerance[dtype] * (dtype == "f32" and 1 or 3))
            else -- the first four see themselves, as alone
              support.close(y:narrow(2, 1, 4), run(x:narrow(2, 1, 4)), support.tolerance[dtype] * 3)
            end
          end)
        end
      end
    end)

    it("takes a mask of all keys", function()
      local layer = nn.MultiHeadAttention(16, 2, options {causal = true, rotary = true})
      local x, padding = fp8.randn(2, 6, 16, on), fp8.tensor({{1, 1, 0, 0, 0, 0}, {0, 0, 0, 0, 0, 0}},
        {dtype = "u8", device = device})
      fp8.no_grad(function()
        local whole, cache = layer(x, {key_padding_mask = padding}), nn.KeyValueCache()
        local first = layer(x:narrow(2, 1, 5), {cache = cache, key_padding_mask = padding:narrow(2, 1, 5)})
        local last = layer(x:narrow(2, 6, 1), {cache = cache, key_padding_mask = padding})
        support.close(fp8.cat({first, last}, 2), whole, 1e-5)
      end)
    end)

    it("outlives the scopes that its steps run in", function()
      local layer, cache = nn.MultiHeadAttention(16, 2, options {causal = true}), nn.KeyValueCache()
      local x = fp8.randn(1, 5, 16, on)
      fp8.no_grad(function()
        local whole, last = layer(x), nil
        for i = 1, 5 do
          local function go_on() return layer(x:narrow(2, i, 1), {cache = cache}) end
          last = fp8.scope(function() return fp8.scope(go_on) end)
        end
        support.close(last, whole:narrow(2, 5, 1), 1e-5)
      end)
    end)

    it("refuses gradients and other batches", function()
      local layer, cache = nn.MultiHeadAttention(16, 2, options {causal = true}), nn.KeyValueCache()
      fails("KeyValueCache: earlier tokens get no gradients; continue a text inside fp8.no_grad", layer,
        fp8.zeros(1, 2, 16, on), {cache = cache})
      assert.equal(0, cache:length())
      local function go_on(batch) return layer(fp8.zeros(batch, 2, 16, on), {cache = cache}) end
      fp8.no_grad(go_on, 1)
      fails("KeyValueCache: keys are f32 (2, 2, 0, 8) on", fp8.no_grad, go_on, 2)
      assert.equal(2, cache:length())
      fails("MultiHeadAttention: option cache must be an fp8.nn.KeyValueCache, got table", layer,
        fp8.zeros(1, 2, 16, on), {cache = {}})
      fails("KeyValueCache: it takes no arguments", nn.KeyValueCache, 1)
    end)
  end)

  describe("Multi-head attention", function()
    it("with shared heads is that of their weights repeated", function()
      local few, all = nn.MultiHeadAttention(16, 4, options {kv_heads = 2}), nn.MultiHeadAttention(16, 4, on)
      assert.same({32, 16}, few.in_proj.weight.shape)
      local function repeated(x, first)
        return x:narrow(1, first, 8):reshape(2, 1, 4, -1):expand(2, 2, 4, -1):reshape(16, -1)
      end
      local state = few:state_dict()
      for _, name in ipairs {"in_proj.weight", "in_proj.bias"} do
        local part = state[name]:reshape(32, -1)
        state[name] = fp8.cat({part:narrow(1, 1, 16), repeated(part, 17), repeated(part, 25)}, 1):reshape(
          all:state_dict()[name].shape)
      end
      all:load_state_dict(state)
      local x = fp8.randn(2, 5, 16, on)
      support.close(few(x):detach(), all(x):detach(), 1e-5)
      assert.equal("MultiHeadAttention(16, 4 heads, 2 of keys and values", (tostring(few):match "^[^\n]*"))
    end)

    it("with rotary embedding depends on distances alone", function()
      local rotary, q, k = nn.RotaryEmbedding(8), fp8.randn(2, 16, on):view(2, 1, 1, 16):narrow(4, 1, 8),
        fp8.randn(2, 1, 1, 8, on)
      local function score(at, from) return (rotary(q, {offset = at}) * rotary(k, {offset = from})):sum(-1) end
      support.close(score(7, 4), score(1003, 1000), 1e-4)
      assert.is_true(support.error(score(7, 4), score(9, 4)) > 1e-3)
      local layer = nn.MultiHeadAttention(16, 2, options {rotary = true, causal = true})
      assert.equal("MultiHeadAttention(16, 2 heads, rotary base = 10000, causal", (tostring(layer):match "^[^\n]*"))
      assert.equal("RotaryEmbedding(8, base = 10000)", tostring(rotary))
      -- The layer by hand.
      local x = fp8.randn(2, 5, 16, on)
      local parts = layer.in_proj(x):detach():view(2, 5, 3, 2, 8):permute(3, 1, 4, 2, 5)
      local y = fp8.attention(rotary(parts[1]), rotary(parts[2]), parts[3], {causal = true})
      support.close(layer(x):detach(), layer.out_proj(y:transpose(2, 3):reshape(2, 5, 16)):detach(), 1e-5)
    end)

    it("combines masks of both kinds with padding of both kinds", function()
      local layer = nn.MultiHeadAttention(16, 2, on)
      local x = fp8.randn(2, 4, 16, on)
      local bytes = {dtype = "u8", device = device}
      local chosen = fp8.tensor({{1, 0, 1, 1}, {1, 1, 0, 1}, {1, 1, 1, 0}, {0, 1, 1, 1}}, bytes)
      local padding = fp8.tensor({{0, 0, 0, 1}, {0, 1, 0, 0}}, bytes)
      local added = fp8.where(chosen, fp8.zeros(4, 4, on), -math.huge)
      local added_padding = fp8.where(padding, fp8.full({2, 4}, -math.huge, on), 0)
      local expected = layer(x, {mask = chosen, key_padding_mask = padding}):detach()
      for _, mask in ipairs {chosen, added} do
        for _, pad in ipairs {padding, added_padding} do
          support.close(layer(x, {mask = mask, key_padding_mask = pad}):detach(), expected, 1e-6)
        end
      end
      local changed = x:clone()
      changed[1][4]:fill_(50)
      support.close(layer(changed, {key_padding_mask = padding}):detach()[1]:narrow(1, 1, 3),
        layer(x, {key_padding_mask = padding}):detach()[1]:narrow(1, 1, 3), 1e-5)
    end)

    it("says what does not fit", function()
      local function refused(text, extra) fails(text, nn.MultiHeadAttention, 16, 4, options(extra)) end
      refused("MultiHeadAttention: 4 heads can't share 3 heads of keys and values", {kv_heads = 3})
      refused("MultiHeadAttention: option kv_heads must be a whole number", {kv_heads = 0})
      refused("MultiHeadAttention: option rotary must be a boolean or a table, got string", {rotary = "yes"})
      refused("RotaryEmbedding: unknown option bass; did you mean base?", {rotary = {bass = 1}})
      fails("RotaryEmbedding: features must be an even number, got 3", nn.MultiHeadAttention, 12, 4, {rotary = true})
      fails("RotaryEmbedding: option base must be finite and above 0, got -1", nn.RotaryEmbedding, 4, {base = -1})
      fails("RotaryEmbedding: 4 features are needed, got 6", nn.RotaryEmbedding(4), fp8.zeros(2, 6, on))
      fails("option offset must be a whole number of at least 0, got -1", fp8.rotary_embedding, fp8.zeros(2, 6, on),
        {offset = -1})
      fails("rotary_embedding: dimension 3 of a tensor of 2 dimensions", fp8.rotary_embedding, fp8.zeros(2, 6, on),
        {dimension = 3})
      fails("positions and, as the last dimension, features are needed", fp8.rotary_embedding, fp8.zeros(2, 6, on),
        {dimension = -1})
      fails("an even number of features is needed, got shape (2, 5)", fp8.rotary_embedding, fp8.zeros(2, 5, on))
      fails("the base must be finite and above 0", fp8.rotary_embedding, fp8.zeros(2, 6, on), {base = 0})
      local layer, x = nn.MultiHeadAttention(16, 4, on), fp8.zeros(2, 3, 16, on)
      fails("MultiHeadAttention: option key_padding_mask must broadcast to the scores, (2, 3), got shape (3, 2)", layer,
        x, {key_padding_mask = fp8.zeros(3, 2, on)})
      fails("option key_padding_mask must be (batch, keys), got 1 dimensions", layer, x,
        {key_padding_mask = fp8.zeros(3, on)})
      fails("MultiHeadAttention: unknown option attn_mask", layer, x, {attn_mask = fp8.zeros(3, 3, on)})
      fails("it takes one sequence (batch, positions, features) and options and nothing else", layer, x, nil, x)
    end)

    it("is a part of a block that ends its sums with norms, recomputed or not", function()
      for _, norm in ipairs {"layer", "rms"} do
        local block = nn.TransformerBlock(16, 2, options {norm_first = false, norm = norm, layer_scale = 0.5})
        local x = fp8.randn(2, 5, 16, on):requires_grad_()
        local mask = fp8.randn(5, 5, on):requires_grad_()
        local sum = x + block.scale1(block.attention(x, {mask = mask}))
        local middle = block.norm1(sum)
        local expected = block.norm2(middle + block.scale2(block.mlp(middle)))
        local dy = fp8.randn(2, 5, 16, on)
        expected:backward(dy)
        local grads = {x.grad, mask.grad, block.norm1.weight.grad}
        for _, again in ipairs {false, true} do
          block.recompute = again
          block:zero_grad()
          x.grad, mask.grad = nil, nil
          local y = block(x, {mask = mask})
          support.close(y:detach(), expected:detach(), 1e-5)
          y:backward(dy)
          for i, grad in ipairs {x.grad, mask.grad, block.norm1.weight.grad} do support.close(grad, grads[i], 1e-5) end
        end
      end
    end)
  end)
end)

-- Attention under masks, and with fewer heads of keys and values. (nn/sequence_spec compares with PyTorch.)
local core = require "fp8.core"
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails

support.each_device(function(device)
  local on, bytes = {device = device}, {device = device, dtype = "u8"}

  local function inputs(dtype, features)
    local options = {device = device, dtype = dtype}
    return fp8.randn(2, 4, 5, features, options), fp8.randn(2, 4, 7, features, options),
      fp8.randn(2, 4, 7, features, options)
  end

  describe("A mask of attention", function()
    it("leaves keys out as if they were not there, whatever they hold", function()
      for _, dtype in ipairs {"f32", "f16", "bf16"} do
        local q, k, v = inputs(dtype, 32)
        local seen = {0, 2, 3, 6}
        local index = fp8.tensor(seen, {device = device, dtype = "i64"})
        local few = {k:index_select(3, index), v:index_select(3, index)}
        local mask = fp8.zeros(7, on)
        for _, position in ipairs(seen) do mask:narrow(1, position + 1, 1):fill_(1) end
        local expected = fp8.attention(q, few[1], few[2])
        support.close(fp8.attention(q, k, v, {mask = mask:to "u8"}), expected)
        support.close(fp8.attention(q, k, v, {mask = (1 - mask):mul(-1e30):to(dtype)}), expected)
        for _, left_out in ipairs {1, 4, 5} do k:narrow(3, left_out + 1, 1):fill_(6e4) end
        support.close(fp8.attention(q, k, v, {mask = mask:to "u8"}), expected)
      end
    end)

    it("gives zeros to a query that sees no key, and no gradients but 0", function()
      for _, dtype in ipairs {"f32", "bf16"} do
        for _, kind in ipairs {"u8", "f32"} do
          local q, k, v = inputs(dtype, 16)
          for _, x in ipairs {q, k, v} do x:requires_grad_() end
          local mask = fp8.ones(5, 1, bytes)
          mask:narrow(1, 2, 2):fill_(0)
          if kind == "f32" then
            mask = fp8.where(mask, fp8.zeros(5, 7, on), -math.huge):requires_grad_()
          end
          local y = fp8.attention(q, k, v, {mask = mask})
          y:backward(fp8.ones_like(y:detach()))
          assert.equal(0, y:detach():narrow(3, 2, 2):abs():max():item())
          assert.is_true(y:detach():narrow(3, 1, 1):abs():min():item() > 0)
          assert.equal(0, q.grad:narrow(3, 2, 2):abs():max():item())
          for _, x in ipairs {q, k, v} do assert.equal(1, x.grad:isfinite():all():item()) end
          if kind == "f32" then assert.equal(0, mask.grad:narrow(1, 2, 2):abs():max():item()) end
        end
      end
    end)

    -- What gets a gradient itself is computed without the fused kernels.
    it("gives with the fused kernels what it gives without", function()
      local shapes = { -- queries, keys, features, heads of keys, causal, shape of the mask
        {70, 300, 32, 4, false, {2, 1, 1, 300}}, {130, 130, 64, 2, true, {2, 4, 130, 130}},
        {65, 129, 128, 4, true, {65, 129}}, {1, 260, 64, 1, false, {4, 1, 260}}, {100, 70, 64, 4, false, {100, 1}},
        {33, 64, 24, 2, true, {2, 1, 33, 64}},
      }
      for _, dtype in ipairs {"f32", "f16", "bf16"} do
        for i, case in ipairs(shapes) do
          local queries, keys, features, heads, causal, shape = unpack(case)
          local options = {device = device, dtype = dtype}
          local q = fp8.randn(2, queries, 4, features, options):transpose(2, 3)
          local k = fp8.randn(2, heads, keys, features, options)
          local v = fp8.randn(2, keys, heads, features, options):transpose(2, 3)
          local dy = fp8.randn(2, 4, queries, features, options)
          local chosen = fp8.rand(shape, on):gt(0.3)
          chosen:narrow(-1, 1, math.min(40, shape[#shape])):fill_(1)
          if shape[#shape - 1] > 3 then chosen:narrow(-2, 3, 1):fill_(0) end -- a query without keys
          local masks = {
            chosen, fp8.randn(shape, on), fp8.where(chosen, fp8.randn(shape, options), -math.huge),
            fp8.randn(shape, on):transpose(-1, -2):contiguous():transpose(-1, -2),
          }
          local function run(mask)
            local leaves = {q:detach(), k:detach(), v:detach()}
            for n, x in ipairs(leaves) do leaves[n] = x:requires_grad_() end
            local y = fp8.attention(leaves[1], leaves[2], leaves[3],
              {mask = mask, causal = causal, enable_gqa = heads < 4})
            y:backward(dy)
            return {y:detach(), leaves[1].grad, leaves[2].grad, leaves[3].grad}
          end
          local mask = masks[(i - 1) % 4 + 1]
          local added = mask.dtype == "u8" and fp8.where(mask, fp8.zeros(shape, on), -math.huge) or mask:detach()
          local expected, names = run(added:requires_grad_()), {"y", "dq", "dk", "dv"}
          for n, x in ipairs(run(mask:detach())) do
            local limit = support.tolerance[dtype] * (dtype == "f32" and 1 or 2)
            local error = support.error(x:float(), expected[n]:float())
            assert.is_true(error <= limit, ("%s, case %d, %s: %g"):format(dtype, i, names[n], error))
          end
        end
      end
    end)

    it("of a fused kernel may not change before its gradients are computed", function()
      local q, mask = fp8.randn(1, 2, 8, 32, {device = device, dtype = "bf16"}):requires_grad_(), fp8.zeros(8, 8, on)
      local y = fp8.attention(q, q, q, {mask = mask}):sum()
      mask:fill_(1)
      fails("attention needs for its derivative was changed in place", function() y:backward() end)
    end)

    it("shows a NaN, of a score or of its own", function()
      local q, k, v = inputs("f32", 16)
      local mask = fp8.zeros(5, 7, on)
      mask:narrow(1, 1, 1):fill_(-math.huge)
      mask:narrow(1, 1, 1):narrow(2, 3, 1):fill_(0 / 0)
      local y = fp8.attention(q, k, v, {mask = mask})
      assert.equal(1, y:narrow(3, 1, 1):isnan():all():item())
      assert.equal(0, y:narrow(3, 2, 4):isnan():any():item())
    end)

    it("is added to scores that f16 could not hold", function()
      local large = fp8.full({1, 1, 6, 32}, -70, {device = device, dtype = "f16"})
      local mask = fp8.full({6, 6}, -1, on):tril()
      local values = fp8.arange(6, {device = device, dtype = "f16"}):view(1, 1, 6, 1):expand(1, 1, 6, 32)
      local y = fp8.attention(large, large, values, {mask = mask})
      local weights = mask:softmax(-1):matmul(fp8.arange(6, {device = device, dtype = "f32"}))
      support.close(y:to "f32":select(4, 1):view(6), weights, 1e-3)
    end)

    it("holds beside causal, and in packed attention", function()
      local x = fp8.randn(2, 5, 48, on)
      local padding = fp8.tensor({{1, 1, 1, 1, 0}, {1, 0, 1, 1, 1}}, bytes):view(2, 1, 1, 5)
      local both = padding:logical_and(fp8.ones(5, 5, bytes):tril())
      support.equal(fp8.self_attention(x, 2, {mask = padding, causal = true}),
        fp8.self_attention(x, 2, {mask = both}))
    end)

    it("is that of linear biases", function()
      support.equal(fp8.alibi_slopes(4, on), fp8.tensor({1 / 4, 1 / 16, 1 / 64, 1 / 256}, on))
      support.equal(fp8.alibi_slopes(6, on), fp8.tensor({2 ^ -2, 2 ^ -4, 2 ^ -6, 2 ^ -8, 2 ^ -1, 2 ^ -3}, on))
      fails("alibi_slopes: heads must be a whole number from 1 on, got 0", fp8.alibi_slopes, 0)
    end)

    it("is refused where it does not fit, by name", function()
      local q, k, v = inputs("f32", 16)
      local function refused(text, mask) fails(text, fp8.attention, q, k, v, {mask = mask}) end
      refused("attention: option mask must broadcast to the scores, (2, 4, 5, 7), got shape (4, 7)",
        fp8.zeros(4, 7, on))
      refused("got shape (1, 1, 1, 1, 7)", fp8.zeros(1, 1, 1, 1, 7, on))
      refused("attention: option mask must be u8, whose ones take part, or f32, f16 or bf16, which is added to the " ..
        "scores, got i64", fp8.zeros(5, 7, {device = device, dtype = "i64"}))
      refused("attention: option mask must be a tensor, got table", {1})
      fails("self_attention: option mask must broadcast to the scores, (1, 2, 3, 3)", fp8.self_attention,
        fp8.zeros(1, 3, 12, on), 2, {mask = fp8.zeros(2, 3, on)})
      fails("self_attention: unknown option enable_gqa", fp8.self_attention, fp8.zeros(1, 3, 12, on), 2,
        {enable_gqa = true})
    end)
  end)

  describe("Attention with shared heads", function()
    it("equals that of repeated ones", function()
      for _, dtype in ipairs {"f32", "f16", "bf16"} do
        for _, case in ipairs {{64, 1}, {64, 2}, {32, 2}, {8, 2}, {128, 4}} do
          local features, heads = unpack(case)
          for _, queries in ipairs {70, 130} do
            local options = {device = device, dtype = dtype}
            local q = fp8.randn(2, queries, 4, features, options):transpose(2, 3):requires_grad_()
            local k = fp8.randn(2, 130, heads, features, options):transpose(2, 3):requires_grad_()
            local v = fp8.randn(2, heads, 130, features, options):requires_grad_()
            local dy = fp8.randn(2, 4, queries, features, options)
            local y = fp8.attention(q, k, v, {enable_gqa = true, causal = true})
            y:backward(dy)
            local others = {}
            for i, x in ipairs {q, k, v} do
              local shape = x.shape
              others[i] = i == 1 and x:detach():clone() or x:detach():unsqueeze(3):expand(2, heads, 4 / heads, shape[3],
                features):reshape(2, 4, shape[3], features):clone()
              others[i]:requires_grad_()
            end
            local expected = fp8.attention(others[1], others[2], others[3], {causal = true})
            expected:backward(dy)
            support.close(y:detach(), expected:detach())
            support.close(q.grad, others[1].grad)
            for i, x in ipairs {k, v} do
              local sum = others[i + 1].grad:to "f32":view(2, heads, 4 / heads, 130, features):sum(3)
              support.close(x.grad:to "f32", sum, support.tolerance[dtype])
            end
          end
        end
      end
    end)

    it("packed, and turned by positions, is that of the parts", function()
      for _, dtype in ipairs {"f32", "bf16"} do
        local x = fp8.randn(2, 40, 8 * 32, {device = device, dtype = dtype}):requires_grad_()
        local other = x:detach():clone():requires_grad_()
        local all = other:view(2, 40, 8, 32):transpose(2, 3)
        local q, k, v = all:narrow(2, 1, 4), all:narrow(2, 5, 2), all:narrow(2, 7, 2)
        local rotary = {base = 500}
        local expected = fp8.attention(fp8.rotary_embedding(q, rotary), fp8.rotary_embedding(k, rotary), v,
          {causal = true, enable_gqa = true}):transpose(2, 3):reshape(2, 40, 128)
        local y = fp8.self_attention(x, 4, {causal = true, kv_heads = 2, rotary = rotary})
        support.equal(y:detach(), expected:detach())
        local dy = fp8.randn(2, 40, 128, {device = device, dtype = dtype})
        y:backward(dy)
        expected:backward(dy)
        support.close(x.grad, other.grad)
      end
    end)

    it("makes no copy of the keys where a fused kernel takes them", function()
      local dtype = device == "cpu" and "f32" or "bf16"
      local options = {device = device, dtype = dtype}
      local q, k = fp8.randn(1, 8, 1, 64, options), fp8.randn(1, 2, 4096, 64, options)
      fp8.attention(q, k, k, {enable_gqa = true})
      core.reset_peak_memory(device)
      local before = core.memory(device).in_use
      fp8.attention(q, k, k, {enable_gqa = true})
      assert.is_true(core.memory(device).peak - before < 2 * 4096 * 64)
    end)

    it("has to be asked for", function()
      local q, k = fp8.zeros(1, 4, 3, 8, on), fp8.zeros(1, 2, 3, 8, on)
      fails("are needed, got (1, 4, 3, 8), (1, 2, 3, 8) and (1, 2, 3, 8)", fp8.attention, q, k, k)
      fails("the heads of q a multiple of those of k and v, got (1, 4, 3, 8), (1, 3, 3, 8)", fp8.attention, q,
        fp8.zeros(1, 3, 3, 8, on), fp8.zeros(1, 3, 3, 8, on), {enable_gqa = true})
      fails("self_attention: option kv_heads must be a whole number that divides 4 heads, got 3", fp8.self_attention,
        fp8.zeros(1, 3, 30, on), 4, {kv_heads = 3})
      fails("self_attention: (batch, positions, features of queries, keys and values) is needed", fp8.self_attention,
        fp8.zeros(1, 3, 30, on), 4, {kv_heads = 2})
      fails("self_attention: rotary: unknown option offset", fp8.self_attention, fp8.zeros(1, 3, 24, on), 2,
        {rotary = {offset = 1}})
      fails("option enable_gqa must be a boolean", fp8.attention, q, q, q, {enable_gqa = 1})
    end)
  end)
end)

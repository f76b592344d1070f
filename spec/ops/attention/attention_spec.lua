-- Attention: layouts, wanted gradients, dropout, memory. (nn/pytorch_spec compares with PyTorch.)
local core = require "fp8.core"
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails

support.each_device(function(device)
  local on = {device = device}

  describe("Attention", function()
    local function inputs()
      return fp8.randn(2, 3, 5, 4, on), fp8.randn(2, 3, 7, 4, on), fp8.randn(2, 3, 7, 6, on)
    end

    it("takes any layout of heads", function()
      local function run(lay_out)
        fp8.manual_seed(9)
        local leaves, views = {}, {}
        for i = 1, 3 do
          leaves[i] = fp8.randn(2, 5, 3, 4, on):requires_grad_()
          views[i] = lay_out(leaves[i]:transpose(2, 3))
        end
        local y = fp8.attention(views[1], views[2], views[3], {causal = true})
        y:backward(fp8.randn(y.shape, on))
        return {y:detach(), leaves[1].grad, leaves[2].grad, leaves[3].grad}
      end
      local expected = run(function(x) return x:contiguous() end)
      local layouts = {
        function(x) return x end,
        function(x) return x:transpose(-1, -2):contiguous():transpose(-1, -2) end,
        function(x) return fp8.cat({x, x}, 3):narrow(3, 1, 5) end,
      }
      for _, lay_out in ipairs(layouts) do
        for i, tensor in ipairs(run(lay_out)) do support.close(tensor, expected[i], 1e-5) end
      end
    end)

    it("computes only the gradients that are wanted", function()
      local q, k, v = inputs()
      local dy = fp8.randn(2, 3, 5, 6, on)
      local function grads(which)
        local t = {q = q:clone(), k = k:clone(), v = v:clone()}
        for name in which:gmatch "%a" do t[name]:requires_grad_() end
        fp8.attention(t.q, t.k, t.v):backward(dy)
        return t
      end
      local all = grads "qkv"
      for _, name in ipairs {"q", "k", "v"} do support.close(grads(name)[name].grad, all[name].grad, 1e-6) end
    end)

    it("packed for one sequence equals the general form", function()
      fp8.manual_seed(8)
      for _, batch in ipairs {1, 2} do
        local x = fp8.randn(batch, 6, 24, on)
        local function part(y, i) return y:view(batch, 6, 3, 2, 4):select(3, i):transpose(2, 3) end
        for _, causal in ipairs {false, true} do
          local a, b = x:clone():requires_grad_(), x:clone():requires_grad_()
          local general = fp8.attention(part(a, 1), part(a, 2), part(a, 3), {causal = causal})
          general = general:transpose(2, 3):contiguous():view(batch, 6, 8)
          local packed = fp8.self_attention(b, 2, {causal = causal})
          support.close(packed:detach(), general:detach(), 1e-6)
          local dy = fp8.randn(batch, 6, 8, on)
          general:backward(dy)
          packed:backward(dy)
          support.close(b.grad, a.grad, 1e-5)
        end
      end
    end)

    it("drops probabilities, with the same mask in backward", function()
      local q, k, v = inputs()
      local x = v:clone():requires_grad_()
      fp8.manual_seed(4)
      local y = fp8.attention(q, k, x, {dropout = 0.5})
      fp8.manual_seed(4)
      local p = fp8.dropout((q:matmul(k:transpose(-1, -2)) * 0.5):softmax(-1), 0.5)
      support.close(y:detach(), p:matmul(v), 1e-5)
      local dy = fp8.randn(y.shape, on)
      y:backward(dy)
      support.close(x.grad, p:transpose(-1, -2):matmul(dy), 1e-5)
    end)

    it("drops probabilities of 16 bits, whose scores are float32", function()
      for _, dtype in ipairs {"f16", "bf16"} do
        local options = {device = device, dtype = dtype}
        local q, k, v = fp8.randn(2, 9, 32, options) * 8, fp8.randn(2, 9, 32, options) * 8, fp8.randn(2, 9, 32, options)
        fp8.manual_seed(6)
        local y = fp8.attention(q, k, v, {dropout = 0.3})
        fp8.manual_seed(6)
        local scores = q:to("f32"):matmul(k:to("f32"):transpose(-1, -2)) / math.sqrt(32)
        support.close(y, fp8.dropout(scores:softmax(-1):to(dtype), 0.3):to("f32"):matmul(v:to "f32"))
        local large = fp8.full({1, 6, 32}, -70, options):requires_grad_()
        y = fp8.attention(large, large, fp8.ones(1, 6, 32, options), {dropout = 0.2})
        y:backward(fp8.ones(y.shape, options))
        assert.equal(0, y:ne(y):sum():item() + large.grad:ne(large.grad):sum():item())
      end
    end)

    it("keeps the probabilities, and nothing once backward is done", function()
      local q = fp8.randn(1, 1, 256, 4, on):requires_grad_()
      collectgarbage()
      collectgarbage()
      local before = core.memory(device).in_use
      fp8.no_grad(function()
        local y = fp8.attention(q, q, q)
        assert.is_true(core.memory(device).in_use - before <= 2 * 256 * 4 * 4)
        assert.is_truthy(y)
      end)
      collectgarbage()
      collectgarbage()
      local y = fp8.attention(q, q, q, {causal = true})
      local kept = core.memory(device).in_use - before
      assert.is_true(kept >= 256 * 256 * 4 and kept <= 256 * 256 * 4 + 8 * 256 * 4 * 4)
      y:backward(fp8.ones(y.shape, on))
      assert.is_true(core.memory(device).in_use - before <= 16 * 256 * 4 * 4)
    end)

    it("can go back twice where the graph is kept", function()
      local q, k, v = inputs()
      q:requires_grad_()
      local y = fp8.attention(q, k, v):sum()
      y:backward(nil, {retain_graph = true})
      local once = q.grad:clone()
      y:backward()
      support.close(q.grad, once * 2, 1e-6)
      fails("released", function() y:backward() end)
    end)

    it("notices that an input was changed in place", function()
      local q, k, v = inputs()
      q:requires_grad_()
      local y = fp8.attention(q, k, v):sum()
      k:fill_(0)
      fails("attention needs for its derivative was changed in place", function() y:backward() end)
    end)

    it("refuses what does not fit, by name", function()
      local q, k, v = inputs()
      fails("attention: q (…, queries, features), k (…, keys, features) and v (…, keys, values) are needed, got " ..
        "(2, 3, 5, 4), (2, 3, 7, 6) and (2, 3, 7, 6)", fp8.attention, q, v, v)
      fails("attention: q (…", fp8.attention, q, k, q)
      fails("attention: q (…", fp8.attention, q[1], k, v)
      fails("attention: k must be a tensor, got nil", fp8.attention, q)
      fails("attention: option mask must be a tensor, got boolean", fp8.attention, q, k, v, {mask = true})
      fails("attention: option causal must be a boolean, got number", fp8.attention, q, k, v, {causal = 1})
      fails("attention: option scale must be finite, got nan", fp8.attention, q, k, v, {scale = 0 / 0})
      fails("attention: option dropout must be at least 0 and below 1, got 1", fp8.attention, q, k, v, {dropout = 1})
      fails("attention: options must be a table, got boolean", fp8.attention, q, k, v, true)
      fails("causal: there may be no more queries than keys", fp8.attention, k, q, q, {causal = true})
      fails("attention: q, k and v must be f32, f16 or bf16, all the same, got f32, bf16 and f32", fp8.attention, q,
        k:to "bf16", v)
      fails("self_attention: (batch, positions, 3 · features) is needed", fp8.self_attention, q, 2)
      fails("features that 5 heads can share, got (2, 3, 24)", fp8.self_attention, fp8.zeros(2, 3, 24, on), 5)
      fails("self_attention: heads must be a whole number", fp8.self_attention, fp8.zeros(2, 3, 24, on), 0.5)
    end)
  end)
end)

-- The walk back frees gradients as soon as they have been used, and no others.
local core = require "fp8.core"
local fp8 = require "fp8"
local support = require "spec.support"

support.each_device(function(device)
  local on = {device = device}
  local rows, unit = 2048, 2048 * 64 * 4

  -- Units of memory that f leaves and has at its peak, without the collector.
  local function measured(f)
    collectgarbage()
    collectgarbage()
    collectgarbage "stop"
    core.reset_peak_memory(device)
    local before = core.memory(device).in_use
    f()
    local memory = core.memory(device)
    collectgarbage "restart"
    return (memory.in_use - before) / unit, (memory.peak - before) / unit
  end

  local function input() return fp8.randn(rows, 64, on):requires_grad_() end

  describe("Gradients", function()
    it("are freed on the way: a long chain takes no more than a short one", function()
      for _, operation in ipairs {
        function(x) return x:neg() end,
        function(x) return x * 2 end,
        function(x) return x:view(-1, 32):view(rows, 64) end,
        function(x) return x + x end,
        function(x) return x:t():contiguous():t() end,
        function(x) return x:narrow(1, 1, rows) end,
        function(x) return fp8.cat({x:narrow(1, 1, 8), x:narrow(1, 9, rows - 8)}) end,
      } do
        local x, grad = input(), fp8.randn(rows, 64, on)
        local y = x
        for _ = 1, 20 do y = operation(y) end
        local left, peak = measured(function() y:backward(grad) end)
        assert.is_true(left <= 1.1, ("%.2f are left"):format(left)) -- x.grad
        assert.is_true(peak <= 5.1, ("%.2f at the peak"):format(peak))
      end
    end)

    it("of layers are, too, in three dimensions", function()
      local layer = fp8.Linear(64, 64, on)
      local norm, attention = fp8.nn.LayerNorm(64, on), fp8.nn.MultiHeadAttention(64, 2, on)
      for _, operation in ipairs {
        function(x) return layer(x) end,
        function(x) return x + norm(x) end,
        function(x) return x:matmul(layer.weight) end,
        function(x) return x + attention(x) end,
      } do
        local x = fp8.randn(rows / 64, 64, 64, on):requires_grad_()
        local y, grad = x, fp8.randn(rows / 64, 64, 64, on)
        for _ = 1, 12 do y = operation(y) end
        local left, peak = measured(function() y:backward(grad) end)
        assert.is_true(left <= 2, ("%.2f are left"):format(left))
        assert.is_true(peak <= 13, ("%.2f at the peak"):format(peak))
      end
    end)

    it("add up in the memory of the first of them", function()
      local x, grad = input(), fp8.randn(rows, 64, on)
      local y = x * 1
      local sum = y * 1
      for i = 2, 30 do sum = sum + y * i end
      local left, peak = measured(function() sum:backward(grad) end)
      assert.is_true(left <= 1.1, ("%.2f are left"):format(left))
      assert.is_true(peak <= 4.1, ("%.2f at the peak"):format(peak))
      support.close(grad * (31 * 15), x.grad, 1e-5)
    end)

    it("that a script has stay as they are", function()
      local kept, given = {}, fp8.ones(3, on)
      local watched = fp8.Function {
        name = "watched",
        forward = function(_, x) return x * 1 end,
        backward = function(_, grad)
          kept[#kept + 1] = grad
          return grad
        end,
      }
      local x = fp8.tensor({1, 2, 3}, {device = device, requires_grad = true})
      local y = watched(watched(x * 2) * 3):retain_grad();
      (y + y * 1 + y:view(3, 1):view(3)):backward(given)
      assert.same({18, 18, 18}, x.grad:totable())
      assert.same({3, 3, 3}, y.grad:totable())
      assert.same({3, 3, 3}, kept[1]:totable())
      assert.same({9, 9, 9}, kept[2]:totable())
      assert.same({1, 1, 1}, given:totable())
      x.grad:fill_(0)
      y.grad:fill_(0)
      assert.same({9, 9, 9}, kept[2]:totable())
    end)

    it("of several leaves stay apart, whatever operations hand on", function()
      local given = fp8.tensor({{1, 2}, {3, 4}}, on)
      local leaves = {}
      for i = 1, 5 do leaves[i] = fp8.zeros(2, 2, {device = device, requires_grad = true}) end
      local a, b, c, d, e = unpack(leaves)
      local sum = a + b + c:view(4):view(2, 2) + d:t():t() + e:expand(2, 2)
      sum:backward(given)
      for i = 1, 5 do leaves[i].grad:mul_(i * 10) end
      for i = 1, 5 do support.close(given * (i * 10), leaves[i].grad, 1e-6) end
      assert.same({{1, 2}, {3, 4}}, given:totable())
      local x = fp8.zeros(2, 2, {device = device, requires_grad = true})
      x:backward(given)
      x.grad:zero_()
      assert.same({{1, 2}, {3, 4}}, given:totable())
    end)

    it("are those of the graph again where it is retained", function()
      local x = fp8.tensor({1, 2}, {device = device, requires_grad = true})
      local logits = (x * 3):view(1, 2)
      local loss = fp8.cross_entropy(logits, fp8.zeros(1, {dtype = "i64", device = device}))
      loss:backward(nil, {retain_graph = true})
      local first = x.grad:clone()
      loss:backward(nil, {retain_graph = true})
      loss:backward()
      support.close(first * 3, x.grad, 1e-6)
    end)

    it("are not written when an operation fails, and nothing is lost", function()
      local x, fail = fp8.tensor({1, 2}, {device = device, requires_grad = true}), true
      local sometimes = fp8.Function {
        name = "sometimes",
        forward = function(_, y) return y * 1 end,
        backward = function(_, grad)
          if fail then error "on purpose" end
          return grad
        end,
      }
      local given = fp8.ones(2, on)
      local y = sometimes(x) + x * x
      support.fails("on purpose", function() y:backward(given, {retain_graph = true}) end)
      assert.is_nil(x.grad)
      fail = false
      y:backward(given)
      assert.same({3, 5}, x.grad:totable())
      assert.same({1, 1}, given:totable())
    end)
  end)
end)

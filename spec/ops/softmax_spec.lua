-- Softmax and its logarithm over any dimension, and the masked softmax of attention: exact zeros, NaN, -inf.
local core = require "fp8.core"
local fp8 = require "fp8"
local reference = require "spec.support.reference.softmax"
local support = require "spec.support"

support.each_device(function(device)
  describe("softmax", function()
    it("agrees with its definition over any dimension", function()
      local x = fp8.randn(4, 5, 6, {device = device}) * 4
      for dimension = 1, 3 do
        local y = x:softmax(dimension):transpose(dimension, 3)
        local log_y = x:log_softmax(dimension):transpose(dimension, 3)
        local source = x:transpose(dimension, 3)
        for i = 1, y:size(1) do
          for j = 1, y:size(2) do
            local expected = reference.forward(source[i][j]:totable())
            local logs = {}
            for k, value in ipairs(expected) do logs[k] = math.log(value) end
            support.close(y[i][j], fp8.tensor(expected), 1e-6)
            support.close(log_y[i][j], fp8.tensor(logs), 1e-6)
          end
        end
      end
    end)

    it("gives a contiguous tensor, and a contiguous gradient, over any dimension", function()
      for _, shape in ipairs {{3, 4, 5}, {1, 6, 2}, {4, 1}, {7}, {2, 3, 2, 3}} do
        for dimension = 1, #shape do
          for _, name in ipairs {"softmax", "log_softmax"} do
            for _, dtype in ipairs {"f32", "f16", "bf16"} do
              local x = fp8.randn(shape, {device = device, dtype = dtype, requires_grad = true})
              local y = x[name](x, dimension)
              assert.is_true(y:is_contiguous())
              assert.same(shape, y.shape)
              y:backward(fp8.randn(shape, {device = device, dtype = dtype}))
              assert.is_true(x.grad:is_contiguous())
              local moved = x:detach():transpose(dimension, #shape)
              support.equal(y:detach():transpose(dimension, #shape), moved[name](moved, #shape))
            end
          end
        end
      end
    end)

    it("gives columns what it gives rows", function()
      for _, shape in ipairs {{2, 40, 70}, {1100, 33}, {3, 0, 5}, {3, 5, 0}} do
        for _, dtype in ipairs {"f32", "f16", "bf16"} do
          local x = fp8.randn(shape, {device = device, dtype = dtype}) * 4
          if x:numel() > 0 then
            local columns = x:select(1, 1)
            columns:narrow(-1, 1, 1):fill_(-math.huge)
            columns:narrow(-1, 2, 1):fill_(0 / 0)
            x:narrow(-1, 33, 1):fill_(-math.huge)
          end
          for _, name in ipairs {"softmax", "log_softmax"} do
            local moved = x:transpose(-1, -2)
            support.equal(x[name](x, -2), moved[name](moved, -1):transpose(-1, -2))
          end
        end
      end
    end)

    it("does not overflow", function()
      local x = fp8.tensor({{1000, 1000, -1000}}, {device = device})
      assert.same({{0.5, 0.5, 0}}, x:softmax(2):totable())
      support.close(x:log_softmax(2):narrow(2, 1, 2), fp8.tensor {{math.log(0.5), math.log(0.5)}}, 1e-6)
    end)

    it("works on rows of any length and 16-bit dtypes", function()
      for _, n in ipairs {1, 31, 1000, 50304} do
        for _, dtype in ipairs {"f32", "f16", "bf16"} do
          local x = fp8.randn(2, n, {device = device}):to(dtype)
          local tolerance, total = support.tolerance[dtype], x:softmax(2):to("f32"):sum(2):totable()
          assert.is_true(math.abs(total[1] - 1) < tolerance and math.abs(total[2] - 1) < tolerance)
        end
      end
    end)
  end)

  describe("The softmax of attention", function()
    local on = {device = device}

    local function softmax(x, scale, causal)
      return core.attention_softmax_(x:clone(), scale, causal)
    end

    for _, dtype in ipairs {"f32", "f16", "bf16"} do
      it("agrees with plain Lua for rows of any length, " .. dtype, function()
        fp8.manual_seed(6)
        local lengths = {
          1, 2, 7, 8, 16, 100, 128, 136, 256, 264, 384, 512, 520, 768, 1000, 1024, 2048, 2056, 4096, 4104, 8192, 8200,
        }
        for i, keys in ipairs(lengths) do
          local queries = math.min(keys, ({1, 3, 9})[i % 3 + 1])
          for _, causal in ipairs {false, true} do
            local x = (fp8.randn(queries, keys) * 4):to(dtype)
            local dy = fp8.randn(queries, keys):to(dtype)
            local y = softmax(x:to(device), -0.7, causal)
            support.close(y, fp8.tensor(reference.rows(x:totable(), -0.7, causal)))
            local dx = core.attention_softmax_backward_(dy:to(device):clone(), y, -0.7, causal)
            if keys > 1 then support.close(dx, fp8.tensor(reference.rows_backward(y:totable(), dy:totable(), -0.7))) end
          end
        end
      end)
    end

    it("takes batches, and matrices with fewer queries than keys", function()
      local x = fp8.randn(3, 2, 5, 8)
      local y = softmax(x:to(device), 0.3, true):to "cpu"
      for i = 1, 3 do
        for j = 1, 2 do
          support.close(y[i][j], fp8.tensor(reference.rows(x[i][j]:totable(), 0.3, true)), 1e-6)
        end
      end
    end)

    it("gives masked entries exactly 0 whatever they hold", function()
      for _, keys in ipairs {8, 7} do
        local x, dy = fp8.randn(keys, keys, on), fp8.randn(keys, keys, on)
        for i = 1, keys - 1 do
          x[i]:narrow(1, i + 1, keys - i):fill_(i % 2 == 0 and 0 / 0 or math.huge)
          dy[i]:narrow(1, i + 1, keys - i):fill_(0 / 0)
        end
        local y = softmax(x, 1, true)
        local dx = core.attention_softmax_backward_(dy, y, 1, true):totable()
        y = y:totable()
        for i = 1, keys do
          for j = 1, keys do
            assert.is_true(j <= i and y[i][j] > 0 or y[i][j] == 0)
            assert.is_true(dx[i][j] == dx[i][j] and (j <= i or dx[i][j] == 0))
          end
        end
      end
    end)

    it("shows NaN in the rows that see it, and in no other", function()
      for _, keys in ipairs {8, 7} do
        for _, bad in ipairs {0 / 0, math.huge} do
          local x = fp8.randn(4, keys, on)
          x[2][1]:fill_(bad)
          local y = softmax(x, 1, true):totable()
          for j = 1, keys do
            local seen = j <= keys - 2
            assert.is_true(y[1][j] == y[1][j] and y[3][j] == y[3][j])
            assert.is_true(seen == (y[2][j] ~= y[2][j]) and (seen or y[2][j] == 0))
          end
        end
      end
    end)

    it("keeps rows with entries of minus infinity", function()
      local x = fp8.tensor({{1, -math.huge, 1, -math.huge, -math.huge, -math.huge, -math.huge, -math.huge}}, on)
      assert.same({{0.5, 0, 0.5, 0, 0, 0, 0, 0}}, softmax(x, 1, false):totable())
    end)
  end)
end)

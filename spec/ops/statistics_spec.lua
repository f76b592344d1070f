-- Statistics and checks.
local fp8 = require "fp8"
local support = require "spec.support"

--- Variance of a list, in double.
local function variance(list, correction)
  local mean, sum = 0, 0
  for _, value in ipairs(list) do mean = mean + value / #list end
  for _, value in ipairs(list) do sum = sum + (value - mean) ^ 2 end
  return sum / (#list - correction)
end

support.each_device(function(device)
  describe("statistics", function()
    it("give variances and deviations of rows, columns and all, for every float dtype", function()
      for _, dtype in ipairs {"f32", "f16", "bf16"} do
        local x = (fp8.randn(7, 5, {device = device}) * 3 + 100):to(dtype):t()
        for correction = 0, 2 do
          local rows, columns = {}, {}
          for i = 1, 5 do rows[i] = variance(support.flat(x[i]), correction) end
          for j = 1, 7 do columns[j] = variance(support.flat(x:select(2, j)), correction) end
          local options = {correction = correction}
          local y = x:var(2, options)
          assert.equal(dtype, y.dtype)
          support.close(y, fp8.tensor(rows))
          support.close(x:var(1, options), fp8.tensor(columns))
          support.close(x:std(2, options), fp8.tensor(rows):sqrt())
          support.close(x:var({1, 2}, options), fp8.tensor(variance(support.flat(x), correction)))
        end
        support.close(x:std(), fp8.tensor(math.sqrt(variance(support.flat(x), 1))))
        assert.same({1, 7}, x:std(1, {keepdim = true}).shape)
      end
    end)

    it("take the mean away first", function()
      local x = fp8.tensor({1e6, 1e6 + 0.25, 1e6 + 0.5, 1e6 + 0.75}, {device = device})
      support.close(x:var(), fp8.tensor(variance({0, 0.25, 0.5, 0.75}, 1)))
    end)

    it("are NaN of too few elements, and f32 of integers", function()
      local x = fp8.tensor({3}, {device = device})
      support.equal(x:var(), fp8.tensor(0 / 0))
      support.equal(x:std(1, {correction = 0}), fp8.tensor(0))
      local whole = fp8.tensor({1, 2, 3, 4}, {dtype = "i64", device = device})
      assert.same({"f32", 1.25}, {whole:var().dtype, whole:var(nil, {correction = 0}):item()})
      support.fails("var: options must be a table, got boolean", function() x:var(1, true) end)
      support.fails("var: unknown option unbiased", function() x:var(1, {unbiased = true}) end)
    end)

    it("sum exponentials of any size", function()
      local x = fp8.tensor({{1000, 1001}, {-1000, -1001}}, {device = device})
      local rest = math.log(1 + math.exp(-1))
      support.close(x:logsumexp(2), fp8.tensor {1001 + rest, -1000 + rest})
      assert.same({1, 1}, x:logsumexp(nil, true).shape)
      local far = fp8.tensor({{-math.huge, -math.huge}, {math.huge, 1}, {0 / 0, 1}}, {device = device})
      support.equal(far:logsumexp(2), fp8.tensor {-math.huge, math.huge, 0 / 0})
      local half = fp8.tensor({9, 9, 9, 9}, {dtype = "f16", device = device})
      assert.same({"f16", true}, {half:logsumexp().dtype, math.abs(half:logsumexp():item() - 9 - math.log(4)) < 5e-3})
    end)

    it("have finite gradients where the result has a kink", function()
      for _, f in ipairs {
        function(x) return x:std() end, function(x) return x:norm() end, function(x) return x:norm(3) end,
        function(x) return x:norm(1.5) end, function(x) return x:hypot(x):sum() end,
      } do
        local x = fp8.zeros(3, {device = device, requires_grad = true})
        f(x):backward()
        assert.same({0, 0, 0}, x.grad:totable())
      end
      local x = fp8.tensor({{0, 2, 3}, {0, 0, 3}}, {device = device, requires_grad = true})
      x:prod(2):sum():backward()
      assert.same({{6, 0, 0}, {0, 0, 0}}, x.grad:totable())
    end)
  end)

  describe("checks", function()
    it("say whether any or all elements are not 0, of every dtype", function()
      for _, dtype in ipairs {"f32", "f16", "bf16", "e4m3", "u8", "i32", "i64"} do
        local x = fp8.tensor({{0, 0, 0}, {0, 1, 0}, {2, 1, 3}}, {dtype = dtype, device = device})
        assert.equal("u8", x:any().dtype)
        assert.same({0, 1, 1}, x:any(2):totable())
        assert.same({0, 0, 1}, x:t():all(1):totable())
        assert.same({1, 0}, {x:any():item(), x:all():item()})
        assert.same({{0, 0, 0}}, x:all(1, true):totable())
      end
      assert.equal(1, fp8.tensor({0, 0 / 0}, {device = device}):any():item())
    end)

    it("say whether tensors are close or equal", function()
      local on = {device = device}
      local x = fp8.tensor({1, 1000, 0, math.huge, 0 / 0}, on)
      local y = fp8.tensor({1.0001, 1000.001, 1e-9, math.huge, 0 / 0}, on)
      assert.same({0, 1, 1, 1, 0}, x:isclose(y):totable())
      assert.same({1, 1, 1, 1, 1}, x:isclose(y, 1e-3, 0.5, true):totable())
      assert.same({0, 0, 0}, fp8.tensor({math.huge, -math.huge, 1}, on):isclose(
        fp8.tensor({-math.huge, 1, math.huge}, on), 0.5, 0.5):totable())
      assert.is_true(x:narrow(1, 2, 3):allclose(y:narrow(1, 2, 3)))
      assert.is_false(fp8.allclose(x, y))
      assert.is_true(fp8.allclose(x, y, 1e-3, 1e-8, true))
      assert.is_true(fp8.equal(x:narrow(1, 1, 4), x:narrow(1, 1, 4):clone()))
      assert.is_false(fp8.equal(x, x))
      assert.is_false(fp8.equal(fp8.ones(2, on), fp8.ones(2, 1, on)))
      assert.is_true(fp8.equal(fp8.ones(0, 2, on), fp8.zeros(0, 2, on)))
      local large = fp8.tensor({9007199254740993LL}, {dtype = "i64", device = device})
      assert.is_false(large:equal(large - 1))
    end)
  end)
end)

-- Quantiles.
local fp8 = require "fp8"
local support = require "spec.support"

support.each_device(function(device)
  local on = {device = device}

  describe("quantile", function()
    it("rounds once, and gives f32 of integers", function()
      local x = fp8.tensor({1, 2, 4, 8}, {dtype = "bf16", device = device})
      assert.same({"bf16", 3}, {x:quantile(0.5).dtype, x:quantile(0.5):item()})
      assert.same({"f32", 3}, {x:to("i32"):quantile(0.5).dtype, x:to("u8"):quantile(0.5):item()})
      assert.same({{}, 7}, {fp8.full({}, 7, on):quantile(0.3).shape, fp8.full({}, 7, on):quantile(0.3, 1):item()})
      assert.same({2}, fp8.full({}, 7, on):quantile(fp8.tensor({0, 1}, on)).shape)
    end)

    it("keeps infinities, and NaN where there is one", function()
      local x = fp8.tensor({{-math.huge, 1, math.huge}, {1, 0 / 0, 2}}, on)
      support.equal(x:quantile(0, 2), fp8.tensor {-math.huge, 0 / 0})
      support.equal(x:quantile(1, 2), fp8.tensor {math.huge, 0 / 0})
    end)

    it("refuses what it can't give", function()
      local x = fp8.zeros(3, on)
      support.fails("quantile: q must be from 0 to 1, got 1.5", function() x:quantile(1.5) end)
      support.fails("quantile: q must be a number or a tensor, got nil", function() x:quantile() end)
      support.fails('got mean', function() x:quantile(0.5, 1, false, "mean") end)
      support.fails("quantile: keepdim must be true or false", function() x:quantile(0.5, 1, 1) end)
      support.fails("quantile: no elements", function() fp8.zeros(0, on):quantile(0.5) end)
      support.fails("at most one dimension", function() x:quantile(fp8.zeros(1, 1, on)) end)
      if device == "cpu" then support.fails("q must be from 0 to 1", function() x:quantile(fp8.tensor {0, 2}) end) end
    end)
  end)
end)

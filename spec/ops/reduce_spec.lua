-- Reductions over any dimensions.
local fp8 = require "fp8"
local reduce = require "spec.support.reference.reduce"
local support = require "spec.support"

support.each_device(function(device)
  describe("reductions", function()
    for _, name in ipairs {"sum", "mean", "max", "min", "argmax"} do
      it(name .. " agrees with a walk over the elements, for any dimensions, strides and dtypes", function()
        local random = support.random(#name)
        fp8.manual_seed(#name)
        for trial = 1, 40 do
          local sizes = {}
          for d = 1, random(4) do sizes[d] = random(7) end
          local order = support.permutation(random, #sizes)
          local dtype = ({"f32", "bf16", "f16", "i32"})[trial % 4 + 1]
          local x = (fp8.randn(sizes, {device = device}) * 5):to(dtype):permute(order)
          local reduced, dimensions = {}, {}
          for d = 1, #sizes do
            if random() < 0.5 then
              reduced[d] = true
              table.insert(dimensions, random() < 0.5 and d or d - #sizes - 1)
            end
          end
          local expected, kept_shape, full_shape = reduce(name, support.flat(x), x.shape, reduced)
          local y = x[name](x, dimensions)
          assert.same(kept_shape, y.shape)
          assert.same(full_shape, x[name](x, dimensions, true).shape)
          local exact = name ~= "sum" and name ~= "mean"
          local actual = support.flat(y)
          for i, value in ipairs(expected) do
            local limit = exact and 0 or ({f32 = 1e-5, bf16 = 8e-3, f16 = 1e-3})[y.dtype] or 0
            local size = math.max(math.abs(value), y.dtype == "f32" and 5 or 1)
            if not (math.abs(actual[i] - value) <= limit * size) then
              error(("%s of %s, element %d: expected %.9g, got %.9g"):format(name, dtype, i, value, actual[i]))
            end
          end
        end
      end)
    end

    it("give integers their own result dtypes", function()
      local x = fp8.tensor({{200, 100}, {50, 250}}, {dtype = "u8", device = device})
      assert.same({"i64", 600}, {x:sum().dtype, x:sum():item()})
      assert.same({"f32", 150}, {x:mean().dtype, x:mean():item()})
      assert.same({"u8", 250}, {x:max().dtype, x:max():item()})
      assert.same({"i64", 3}, {x:argmax().dtype, x:argmax():item()})
    end)

    it("sum long float32 rows and columns to 1e-6", function()
      local x = fp8.rand(1000, 3000, {device = device}) + 1
      local exact = 0
      for _, value in ipairs(support.flat(x:narrow(1, 1, 3))) do exact = exact + value end
      assert.is_true(math.abs(x:narrow(1, 1, 3):sum():item() / exact - 1) < 1e-6)
      local column = 0
      for _, value in ipairs(support.flat(x:select(2, 17))) do column = column + value end
      assert.is_true(math.abs(x:sum(1)[17]:item() / column - 1) < 1e-6)
      local ones = fp8.ones(5000, 4000, {device = device})
      assert.equal(2e7, ones:sum():item())
      assert.equal(1, ones:mean():item())
    end)

    it("propagate NaN, and take it as largest", function()
      local x = fp8.tensor({{1, 0 / 0, 3}, {4, 5, 6}}, {device = device})
      support.equal(x:max(2), fp8.tensor {0 / 0, 6})
      support.equal(x:min(2), fp8.tensor {0 / 0, 4})
      assert.same({1, 2}, x:argmax(2):totable())
    end)

    it("take the first of equal elements", function()
      local x = fp8.zeros(3000, {device = device})
      assert.equal(0, x:argmax():item())
      x:narrow(1, 1001, 2000):fill_(1)
      assert.equal(1000, x:argmax():item())
    end)

    it("of no elements are 0, NaN, or an error", function()
      local x = fp8.zeros(2, 0, {device = device})
      assert.same({0, 0}, x:sum(2):totable())
      support.equal(x:mean(2), fp8.tensor {0 / 0, 0 / 0})
      support.fails("no elements", function() x:max(2) end)
      assert.same({0}, x:max(1).shape)
    end)
  end)
end)

-- Rows and elements picked by index, and sums of rows by index.
local core = require "fp8.core"
local fp8 = require "fp8"
local support = require "spec.support"

support.each_device(function(device)
  local options = {device = device}
  local function positions(values, dtype) return fp8.tensor(values, {dtype = dtype or "i64", device = device}) end

  describe("index_select and gather", function()
    it("pick rows of any dimension, positions counting from 0", function()
      local x = fp8.arange(24, options):view(2, 3, 4)
      for _, dtype in ipairs {"i64", "i32", "u8"} do
        assert.same({{{8, 9, 10, 11}, {0, 1, 2, 3}, {8, 9, 10, 11}},
          {{20, 21, 22, 23}, {12, 13, 14, 15}, {20, 21, 22, 23}}},
          x:index_select(2, positions({2, 0, 2}, dtype)):totable())
      end
      assert.same({{3, 0}, {7, 4}, {11, 8}}, x[1]:index_select(2, positions {3, 0}):totable())
      assert.same({0, 3, 4}, x:index_select(1, positions {}).shape)
      assert.same({{4, 5}, {10, 11}}, x:to("bf16"):view(12, 2):index_select(1, positions {2, 5}):totable())
    end)

    it("gather elements by an index of the same rank", function()
      local x = fp8.arange(12, options):view(3, 4)
      assert.same({{3, 0}, {4, 5}, {10, 10}}, x:gather(2, positions {{3, 0}, {0, 1}, {2, 2}}):totable())
      assert.same({{8, 1, 6, 3}}, x:gather(1, positions {{2, 0, 1, 0}}):totable())
      assert.same({9, 2}, fp8.arange(10, options):gather(1, positions {9, 2}):totable())
    end)

    it("refuse positions out of range", function()
      local x = fp8.arange(12, options):view(3, 4)
      for _, wrong in ipairs {3, -1, 2 ^ 33} do
        support.fails("out of range", function() x:index_select(1, positions {0, wrong}):totable() end)
        support.fails("out of range", function() x:gather(1, positions {{0, wrong, 0, 0}}):totable() end)
      end
      assert.same({0, 1, 2, 3}, x:index_select(1, positions {0})[1]:totable())
      support.fails("integer dtype", function() x:index_select(1, fp8.zeros(2, options)) end)
    end)
  end)

  describe("index_add", function()
    it("is right where most rows go to one place", function()
      local index = {}
      for i = 1, 4000 do index[i] = i % 5 == 0 and i % 90 or 17 end
      local sums = core.index_add({90, 3}, 1, positions(index), fp8.ones(4000, 3, options)):totable()
      assert.equal(3200 + 0, sums[18][1])
      local total = 0
      for i = 1, 90 do total = total + sums[i][2] end
      assert.equal(4000, total)
    end)

    it("is the gradient of index_select along any dimension", function()
      fp8.manual_seed(2)
      local x = fp8.randn(3, 4, 5, options):requires_grad_()
      for dimension = 1, 3 do
        x.grad = nil
        local index = fp8.tensor({1, 0, 1, 2}, {device = device, dtype = "i32"})
        local y = x:index_select(dimension, index)
        local dy = fp8.randn(y.shape, options)
        y:backward(dy)
        local moved, parts = dy:transpose(1, dimension), {}
        local zero = fp8.zeros(moved[1].shape, options)
        for i = 1, x:size(dimension) do parts[i] = ({moved[2], moved[1] + moved[3], moved[4]})[i] or zero end
        support.close(x.grad, fp8.stack(parts, 1):transpose(1, dimension), 1e-6)
      end
    end)
  end)
end)

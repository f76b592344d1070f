local fp8 = require "fp8"
local support = require "spec.support"

support.each_device(function(device)
  local options = {device = device}
  local function positions(values, dtype) return fp8.tensor(values, {dtype = dtype or "i64", device = device}) end

  describe("cat and stack", function()
    it("join along any dimension, from any strides", function()
      local a = fp8.arange(6, options):view(2, 3)
      local b = fp8.arange(9, options):view(3, 3):t():narrow(1, 1, 2)
      assert.same({{0, 1, 2, 0, 3, 6}, {3, 4, 5, 1, 4, 7}}, fp8.cat({a, b}, 2):totable())
      assert.same({{0, 1, 2}, {3, 4, 5}, {0, 3, 6}, {1, 4, 7}}, fp8.cat({a, b}, 1):totable())
      assert.same({{{0, 1, 2}, {3, 4, 5}}, {{0, 3, 6}, {1, 4, 7}}}, fp8.stack({a, b}, 1):totable())
      assert.same({{{0, 0}, {1, 3}, {2, 6}}, {{3, 1}, {4, 4}, {5, 7}}}, fp8.stack({a, b}, -1):totable())
    end)

    it("name what does not fit", function()
      support.fails("(2, 3)", function() fp8.cat({fp8.zeros(2, 3, options), fp8.zeros(3, 2, options)}, 1) end)
      support.fails("dtypes f32 and i64", function() fp8.cat({fp8.zeros(2, options), positions {1}}, 1) end)
      support.fails("empty", function() fp8.cat({}, 1) end)
    end)
  end)

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
end)

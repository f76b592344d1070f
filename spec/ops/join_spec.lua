-- Joining tensors along a dimension.
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
end)

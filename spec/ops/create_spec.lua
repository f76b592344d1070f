-- Tensors from tables, sizes and ranges.
local fp8 = require "fp8"
local support = require "spec.support"

local dtypes = {"f32", "f16", "bf16", "e4m3", "e5m2", "u8", "i32", "i64"}

support.each_device(function(device)
  describe("creation", function()
    it("makes nested tables into tensors of any dtype", function()
      for _, dtype in ipairs(dtypes) do
        local x = fp8.tensor({{1, 2, 3}, {4, 5, 6}}, {dtype = dtype, device = device})
        assert.same({2, 3}, x.shape)
        assert.equal(dtype, x.dtype)
        assert.same({{1, 2, 3}, {4, 5, 6}}, x:totable())
      end
    end)

    it("takes numbers and empty tables", function()
      assert.same({}, fp8.tensor(7, {device = device}).shape)
      assert.equal(7, fp8.tensor(7, {device = device}):item())
      assert.same({0}, fp8.tensor({}, {device = device}).shape)
      assert.same({2, 0}, fp8.tensor({{}, {}}, {device = device}).shape)
    end)

    it("takes sizes as numbers or as a table", function()
      assert.same({{0, 0}, {0, 0}}, fp8.zeros(2, 2, {device = device}):totable())
      assert.same({1, 1, 1}, fp8.ones({3}, {device = device}):totable())
      assert.equal(0, fp8.zeros({device = device}):item())
      assert.same({{2.5}}, fp8.full({1, 1}, 2.5, {device = device}):totable())
      assert.same({3, 0, 2}, fp8.empty(3, 0, 2, {device = device}).shape)
    end)

    it("counts up and down", function()
      assert.same({0, 1, 2, 3}, fp8.arange(4, {device = device}):totable())
      assert.same({1, 3.5, 6}, fp8.arange(1, 7, 2.5, {device = device}):totable())
      assert.same({5, 3, 1}, fp8.arange(5, 0, -2, {device = device, dtype = "i64"}):totable())
      assert.same({0}, fp8.arange(3, 1, {device = device}).shape)
      local far = fp8.arange(2 ^ 40, 2 ^ 40 + 3, {device = device, dtype = "i64"})
      assert.same({2 ^ 40, 2 ^ 40 + 1, 2 ^ 40 + 2}, far:totable())
    end)
  end)
end)

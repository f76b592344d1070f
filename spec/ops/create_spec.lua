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

    it("makes tensors like another", function()
      local x = fp8.zeros(2, 3, {dtype = "bf16", device = device}):t()
      for _, name in ipairs {"zeros_like", "ones_like", "empty_like", "rand_like", "randn_like"} do
        local y = fp8[name](x)
        assert.same({{3, 2}, "bf16", device}, {y.shape, y.dtype, y.device:match "^%a+"})
        assert.equal("f32", fp8[name](x, {dtype = "f32"}).dtype)
      end
      assert.same({{2, 2, 2}}, fp8.full_like(fp8.zeros(1, 3, {device = device}), 2):totable())
      support.fails("full_like: unknown option size", function() fp8.full_like(x, 2, {size = 3}) end)
    end)

    it("makes unit matrices", function()
      for _, dtype in ipairs(dtypes) do
        assert.same({{1, 0, 0}, {0, 1, 0}}, fp8.eye(2, 3, {dtype = dtype, device = device}):totable())
      end
      assert.same({{1, 0}, {0, 1}}, fp8.eye(2, {device = device}):totable())
      assert.same({0, 0}, fp8.eye(0, {device = device}).shape)
      assert.is_true(fp8.eye(2, {device = device, requires_grad = true}).requires_grad)
      support.fails("eye: the number of rows must be a whole number from 0 on, got -1", function() fp8.eye(-1) end)
    end)

    it("divides ranges", function()
      for _, case in ipairs {{0, 1, 11}, {-3, 5, 7}, {5, -3, 1000}, {0.1, 0.7, 3}, {2, 2, 4}, {1e30, -1e30, 5}} do
        local start, stop, steps = unpack(case)
        local y = fp8.linspace(start, stop, steps, {device = device}):totable()
        assert.equal(steps, #y)
        assert.same(fp8.tensor({start, stop}):totable(), {y[1], y[steps]})
        for i = 1, steps do
          local exact = start + (stop - start) * (i - 1) / (steps - 1)
          assert.is_true(math.abs(y[i] - exact) <= 1e-7 * math.max(math.abs(start), math.abs(stop)))
        end
      end
      assert.same({3}, fp8.linspace(3, 4, 1, {device = device}):totable())
      assert.same({0}, fp8.linspace(3, 4, 0, {device = device}).shape)
      support.fails("a floating-point dtype", function() fp8.linspace(0, 1, 2, {dtype = "i64"}) end)
      support.fails("closer together", function() fp8.linspace(1e16, 1e16 + 2, 5) end)
      support.fails("start and stop must be finite numbers, got inf", function() fp8.linspace(0, 1 / 0, 2) end)
    end)

    it("makes one-hot rows", function()
      for _, dtype in ipairs {"u8", "i32", "i64"} do
        local x = fp8.tensor({{2, 0}, {1, 1}}, {dtype = dtype, device = device}):t()
        local y = fp8.one_hot(x)
        assert.equal("i64", y.dtype)
        assert.same({{{0, 0, 1}, {0, 1, 0}}, {{1, 0, 0}, {0, 1, 0}}}, y:totable())
      end
      assert.same({0, 1}, fp8.one_hot(fp8.tensor(1, {dtype = "i64", device = device})):totable())
      assert.same({0, 4}, fp8.one_hot(fp8.zeros(0, {dtype = "i64", device = device}), 4).shape)
      support.fails("integers are needed, got f32", function() fp8.one_hot(fp8.zeros(2)) end)
      support.fails("must be given for no elements", function() fp8.one_hot(fp8.zeros(0, {dtype = "i64"})) end)
      support.fails("range", function()
        fp8.one_hot(fp8.tensor({3}, {dtype = "i64", device = device}), 3):totable()
      end)
    end)

    it("makes grids", function()
      local columns = fp8.arange(3, {device = device, dtype = "i64"})
      local grids = fp8.meshgrid({fp8.arange(2, {device = device}), columns}, "xy")
      assert.same({{0, 1}, {0, 1}, {0, 1}}, grids[1]:totable())
      assert.same({"i64", {{0, 0}, {1, 1}, {2, 2}}}, {grids[2].dtype, grids[2]:totable()})
      assert.same({1, 2}, fp8.meshgrid({fp8.tensor(5, {device = device}), fp8.ones(2, {device = device})})[1].shape)
      support.fails("meshgrid: indexing must be ij or xy, got yx", function() fp8.meshgrid({}, "yx") end)
      support.fails("meshgrid: argument 1: a tensor of 1 dimension is needed", function()
        fp8.meshgrid {fp8.ones(2, 2)}
      end)
    end)
  end)
end)

local ffi = require "ffi"
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

  describe("views", function()
    local x
    before_each(function() x = fp8.arange(24, {device = device}):view(2, 3, 4) end)

    it("share storage with their tensor", function()
      x:select(1, 2):fill_(-1)
      x:transpose(1, 3):select(1, 1):fill_(-2)
      assert.same({{{-2, 1, 2, 3}, {-2, 5, 6, 7}, {-2, 9, 10, 11}},
        {{-2, -1, -1, -1}, {-2, -1, -1, -1}, {-2, -1, -1, -1}}},
        x:totable())
    end)

    it("count dimensions and positions from 1, and from the end", function()
      assert.same({12, 13, 14, 15}, x:select(1, 2):select(1, 1):totable())
      assert.same({3, 7, 11}, x:select(-1, -1):select(1, 1):totable())
      assert.same(x[2]:totable(), x:select(1, -1):totable())
      assert.same({{5, 6}, {9, 10}}, x[1]:narrow(1, 2, 2):narrow(2, -3, 2):totable())
    end)

    it("permute, transpose and t", function()
      assert.same({4, 2, 3}, x:permute(3, 1, 2).shape)
      assert.equal(23, x:permute(3, 1, 2)[4][2][3]:item())
      assert.same({3, 2, 4}, x:transpose(1, 2).shape)
      assert.same({{0, 4, 8}, {1, 5, 9}, {2, 6, 10}, {3, 7, 11}}, x[1]:t():totable())
    end)

    it("copies of transposed bytes are right, where they come in runs of 16 and where not", function()
      local function check(bytes)
        local from, to = bytes:totable(), bytes:transpose(2, 3):contiguous():totable()
        for b, matrix in ipairs(from) do
          for i, row in ipairs(matrix) do
            for j, value in ipairs(row) do
              if to[b][j][i] ~= value then assert.equal(value, to[b][j][i], ("%d, %d, %d"):format(b, i, j)) end
            end
          end
        end
      end
      local on = {dtype = "u8", device = device}
      for _, shape in ipairs {{1, 16, 16}, {3, 32, 144}, {2, 272, 160}, {1, 17, 48}, {1, 48, 17}, {2, 130, 130}} do
        check(fp8.randint(0, 256, shape, on))
      end
      check(fp8.randint(0, 256, {2, 64, 96}, on):narrow(3, 17, 64))
      check(fp8.randint(0, 256, {2, 64, 96}, on):narrow(3, 3, 64))
      check(fp8.randint(0, 256, {2, 64, 100}, on):narrow(3, 1, 64))
    end)

    it("view reshapes what strides allow, reshape everything", function()
      assert.same({6, 4}, x:view(6, -1).shape)
      assert.same({24}, x:view(-1).shape)
      assert.same({2, 1, 12}, x:view(2, 1, 12).shape)
      local swapped = x:transpose(2, 3)
      assert.same({2, 2, 2, 3}, swapped:view(2, 2, 2, 3).shape)
      support.equal(swapped:view(2, 2, 2, 3):reshape(24), swapped:contiguous():view(24))
      support.fails("view", function() swapped:view(24) end)
      assert.same({0, 4, 8, 1}, swapped:reshape(24):narrow(1, 1, 4):totable())
      support.fails("no size in place of -1", function() x:view(5, -1) end)
    end)

    it("expand repeats without copying", function()
      local row = fp8.tensor({1, 2}, {device = device})
      local wide = row:expand(3, -1)
      assert.same({{1, 2}, {1, 2}, {1, 2}}, wide:totable())
      row:fill_(5)
      assert.same({{5, 5}, {5, 5}, {5, 5}}, wide:totable())
      support.fails("expanded tensor", function() wide:fill_(0) end)
    end)

    it("squeeze and unsqueeze", function()
      local y = x:unsqueeze(1):unsqueeze(-1)
      assert.same({1, 2, 3, 4, 1}, y.shape)
      assert.same({2, 3, 4}, y:squeeze().shape)
      assert.same({2, 3, 4, 1}, y:squeeze(1).shape)
      assert.same({1, 2, 3, 4, 1}, y:squeeze(2).shape)
    end)

    it("of random shapes and orders agree with their elements", function()
      math.randomseed(3)
      for _ = 1, 50 do
        local sizes, order = {}, {}
        for d = 1, math.random(1, 5) do
          sizes[d] = math.random(1, 4)
          table.insert(order, math.random(#order + 1), d)
        end
        local base = fp8.randn(sizes, {device = device})
        local permuted = base:permute(order)
        local flat, strides, shape = support.flat(base), base:stride(), permuted.shape
        local expected = {}
        local function walk(d, offset)
          if d > #order then
            table.insert(expected, flat[offset + 1])
            return
          end
          for i = 0, shape[d] - 1 do walk(d + 1, offset + i * strides[order[d]]) end
        end
        walk(1, 0)
        assert.same(expected, support.flat(permuted))
      end
    end)
  end)

  describe("conversion", function()
    local function check(values, from, to, expected)
      local x = fp8.tensor(values, {dtype = from, device = device})
      support.equal(x:to(to), fp8.tensor(expected, {dtype = to}))
    end

    it("rounds to nearest even", function()
      check({1 + 2 ^ -11, 1 + 3 * 2 ^ -11, 65519, 65520, 2 ^ -25, 1.5 * 2 ^ -24}, "f32", "f16",
        {1, 1 + 2 ^ -9, 65504, math.huge, 0, 2 ^ -23})
      check({1 + 2 ^ -8, 1 + 3 * 2 ^ -8, -1 - 2 ^ -8}, "f32", "bf16", {1, 1 + 2 ^ -6, -1})
      check({1.0625, 1.1875, 2 ^ -10, 1.5 * 2 ^ -9}, "f32", "e4m3", {1, 1.25, 0, 2 ^ -8})
      check({1.125, 1.375, 2 ^ -17, 1.5 * 2 ^ -16}, "bf16", "e5m2", {1, 1.5, 0, 2 ^ -15})
    end)

    it("saturates to float8 unless told otherwise", function()
      check({1000, -1e9, math.huge}, "f32", "e4m3", {448, -448, 448})
      check({1e6, -math.huge}, "f32", "e5m2", {57344, -57344})
      local x = fp8.tensor({1000, -math.huge}, {device = device})
      local e4m3, e5m2 = x:to {dtype = "e4m3", saturate = false}, x:to {dtype = "e5m2", saturate = false}
      support.equal(e4m3:to("f32"), fp8.tensor {0 / 0, 0 / 0})
      support.equal(e5m2:to("f32"), fp8.tensor {1024, -math.huge})
    end)

    it("goes towards zero to integers, saturates, and makes NaN 0", function()
      check({1.9, -1.9, 300, -5, 0 / 0, math.huge}, "f32", "u8", {1, 0, 255, 0, 0, 255})
      check({1.9, -1.9, 3e9, -3e9, 0 / 0}, "f32", "i32", {1, -1, 2 ^ 31 - 1, -2 ^ 31, 0})
      check({1e30, -2.5}, "f32", "i64", {2 ^ 63, -2})
      check({300, -1, 7}, "i64", "u8", {255, 0, 7})
    end)

    it("keeps every value that the target holds, for all pairs of dtypes", function()
      local values = {0, 1, 2, 3, 4, 6, 8, 12, 16, 96}
      for _, from in ipairs(dtypes) do
        for _, to in ipairs(dtypes) do check(values, from, to, values) end
      end
    end)

    it("returns the tensor itself where nothing changes", function()
      local x = fp8.ones(2, {device = device})
      assert.is_true(rawequal(x, x:to("f32")))
      assert.is_true(rawequal(x, x:to(x.device)))
      assert.is_true(rawequal(x, x:contiguous()))
      assert.is_false(rawequal(x, x:clone()))
    end)
  end)

  describe("in-place writes", function()
    it("convert and broadcast", function()
      local x = fp8.zeros(2, 3, {device = device, dtype = "i32"})
      x:copy_(fp8.tensor {1.5, 2.5, -3.5})
      assert.same({{1, 2, -3}, {1, 2, -3}}, x:totable())
      support.fails("does not broadcast", function() x:copy_(fp8.zeros(3, 2, 3)) end)
    end)

    it("are right where source and target overlap", function()
      local x = fp8.arange(16, {device = device}):view(4, 4)
      local before = x:clone()
      x:copy_(x:t())
      support.equal(x, before:t())
      local y = fp8.arange(6, {device = device})
      y:narrow(1, 2, 5):add_(y:narrow(1, 1, 5))
      assert.same({0, 1, 3, 5, 7, 9}, y:totable())
    end)
  end)
end)

describe("data()", function()
  it("gives a typed pointer into the tensor's memory", function()
    local x = fp8.zeros(3)
    x:data()[1] = 2.5
    assert.same({0, 2.5, 0}, x:totable())
    assert.is_true(ffi.istype("float *", x:data()))
    assert.is_true(ffi.istype("uint16_t *", fp8.zeros(1, {dtype = "bf16"}):data()))
    assert.is_true(ffi.istype("int64_t *", fp8.zeros(1, {dtype = "i64"}):data()))
    assert.equal(0x3C00, fp8.ones(1, {dtype = "f16"}):data()[0])
    assert.equal(0x38, fp8.ones(1, {dtype = "e4m3"}):data()[0])
    assert.equal(7, fp8.arange(10):narrow(1, 8, 2):data()[0])
  end)

  it("refuses tensors that are not contiguous", function()
    support.fails("contiguous", function() fp8.zeros(2, 3):t():data() end)
  end)
end)

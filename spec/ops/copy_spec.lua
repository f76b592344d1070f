-- Copies: between dtypes and strides, into new tensors and into existing ones.
local fp8 = require "fp8"
local support = require "spec.support"

local dtypes = {"f32", "f16", "bf16", "e4m3", "e5m2", "u8", "i32", "i64"}

support.each_device(function(device)
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

    it("of parts of matrices are right in runs, in tiles and in elements", function()
      for _, dtype in ipairs {"u8", "bf16", "f32", "i64"} do
        local x = fp8.randint(0, 200, {75, 143}, {device = device}):to(dtype)
        local values = x:totable()
        for _, part in ipairs {{1, 75, 1, 143}, {3, 70, 5, 130}, {7, 33, 1, 128}, {10, 2, 9, 3}} do
          local view = x:narrow(1, part[1], part[2]):narrow(2, part[3], part[4])
          local copy, transposed = view:clone():totable(), view:t():contiguous():totable()
          local joined = fp8.cat({view, view}, 2):totable()
          for i = 1, part[2] do
            for j = 1, part[4] do
              local expected = values[part[1] + i - 1][part[3] + j - 1]
              assert.equal(expected, copy[i][j])
              assert.equal(expected, transposed[j][i])
              assert.equal(expected, joined[i][part[4] + j])
            end
          end
        end
      end
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

  describe("copies", function()
    it("of transposed bytes are right, where they come in runs of 16 and where not", function()
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

    it("made many at once are those made one by one, whatever they share", function()
      local core = require "fp8.core"
      local function tensors(dtype, count)
        local whole, list = fp8.zeros(count * 128, {dtype = dtype, device = device}), {}
        for i = 1, count do list[i] = whole:narrow(1, 128 * i - 127, 99 + i % 3) end
        return list, whole
      end
      for _, dtype in ipairs {"f32", "bf16"} do
        local places, whole = tensors(dtype, 70)
        local copies, expected = {}, fp8.zeros(70 * 128, {dtype = dtype})
        for i, place in ipairs(places) do
          local source = fp8.full(place.shape, i, {dtype = dtype, device = device})
          copies[2 * i - 1], copies[2 * i] = place, source
          expected:narrow(1, 128 * i - 127, place.shape[1]):fill_(i)
        end
        core.commit({}, 0, copies)
        support.equal(whole, expected)
      end
      local x, y = fp8.zeros(4, {device = device}), fp8.ones(4, {device = device})
      local half = x:narrow(1, 1, 2)
      core.commit({}, 0, {x, y, half, fp8.full({2}, 5, {device = device})}) -- one is part of another
      assert.same({5, 5, 1, 1}, x:totable())
      local three = fp8.full({4}, 3, {dtype = "bf16", device = device})
      core.commit({}, 0, {x, fp8.full({1}, 2, {device = device}), y, three})
      assert.same({{2, 2, 2, 2}, {3, 3, 3, 3}}, {x:totable(), y:totable()})
      core.commit({}, 0, {x, y, y, x}) -- one after the other
      assert.same({{3, 3, 3, 3}, {3, 3, 3, 3}}, {x:totable(), y:totable()})
    end)
  end)
end)

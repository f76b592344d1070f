-- Places of values in ascending sequences.
local fp8 = require "fp8"
local support = require "spec.support"

--- How many elements of a list are below a value, or not above it.
local function place_by_hand(list, value, right)
  local count = 0
  for _, element in ipairs(list) do
    if element < value or right and element == value then count = count + 1 end
  end
  return count
end

support.each_device(function(device)
  local options = {device = device}

  describe("searchsorted", function()
    it("counts what is below each value, of every dtype", function()
      local random = support.random(1)
      for _, dtype in ipairs {"f32", "f16", "bf16", "e4m3", "e5m2", "u8", "i32", "i64"} do
        for _, length in ipairs {0, 1, 2, 7, 16} do
          local list, values, position = {}, {}, 0
          for i = 1, length do
            position = position + random(3) - 1
            list[i] = position
          end
          for i = 1, 30 do values[i] = random(18) - 1 end
          local typed = {dtype = dtype, device = device}
          -- Not contiguous: values are a column.
          local sequence, wanted = fp8.tensor(list, typed), fp8.tensor(values, typed):view(10, 3):t()
          if dtype:find "^e" then list, values = support.flat(sequence), support.flat(wanted:t()) end
          for _, right in ipairs {false, true} do
            local expected = {}
            for i, value in ipairs(values) do expected[i] = place_by_hand(list, value, right) end
            local y = sequence:searchsorted(wanted, {right = right})
            assert.same({"i64", {3, 10}}, {y.dtype, y.shape})
            assert.same(expected, support.flat(y:t()))
            support.equal(y, wanted:bucketize(sequence, {right = right}))
          end
        end
      end
    end)

    it("searches rows in rows of their own", function()
      local rows = fp8.tensor({{1, 3, 5, 7}, {2, 2, 4, 8}}, options)
      local values = fp8.tensor({{0, 3, 9}, {2, 3, 8}}, options)
      assert.same({{0, 1, 4}, {0, 2, 3}}, rows:searchsorted(values):totable())
      assert.same({{0, 2, 4}, {2, 2, 4}}, rows:searchsorted(values, {right = true}):totable())
      local deep = fp8.stack({rows, rows + 1}, 1)
      assert.same({{{0, 1, 4}, {0, 2, 3}}, {{0, 1, 4}, {0, 0, 3}}},
        deep:searchsorted(fp8.stack({values, values}, 1)):totable())
      assert.same({{0, 0}, {0, 0}}, fp8.ones(2, 0, options):searchsorted(fp8.ones(2, 2, options)):totable())
      assert.same({2, 0}, rows:searchsorted(fp8.ones(2, 0, options)).shape)
      support.fails("searchsorted: a sorted sequence of 1 dimension, or of the values' shape (3, 3) in all but the "
        .. "last, is needed, got shape (2, 4)", function() rows:searchsorted(fp8.ones(3, 3, options)) end)
      support.fails("is needed, got shape (2, 4)", function() rows:searchsorted(3) end)
      support.fails("is needed, got shape ()", function() fp8.tensor(3, options):searchsorted(3) end)
    end)

    it("does with NaN what PyTorch does", function()
      local nan = 0 / 0
      local sequence = fp8.tensor({1, 2, nan}, options)
      assert.same({0, 0, 3, 3}, sequence:searchsorted(fp8.tensor({0, 1, 5, nan}, options)):totable())
      local ends = fp8.tensor({-math.huge, 0, math.huge}, options)
      local infinities = fp8.tensor({-math.huge, math.huge}, options)
      assert.same({0, 2}, ends:searchsorted(infinities):totable())
      assert.same({1, 3}, ends:searchsorted(infinities, {right = true}):totable())
    end)

    it("takes numbers, and compares integers exactly", function()
      local sequence = fp8.tensor({1, 3}, {dtype = "i64", device = device})
      assert.same({0, 1, 2}, {
        sequence:searchsorted(1):item(), sequence:searchsorted(2.5):item(),
        sequence:searchsorted(3, {right = true}):item(),
      })
      assert.same({}, sequence:searchsorted(1).shape)
      assert.same({0, 2, 2}, {
        sequence:searchsorted(-math.huge):item(), sequence:searchsorted(math.huge):item(),
        sequence:searchsorted(0 / 0):item(),
      })
      assert.equal(1, fp8.bucketize(3, fp8.tensor({1, 4}, options)):item())
      local large = fp8.tensor({2 ^ 53, 2 ^ 53 + 2}, {dtype = "i64", device = device})
      assert.equal(1, large:searchsorted(9007199254740993LL):item())
      assert.equal(0, large:searchsorted(9007199254740992LL):item())
      local bytes = fp8.tensor({2, 3}, {dtype = "u8", device = device})
      assert.same({1, 2}, fp8.tensor({1, 2}, options):searchsorted(bytes):totable())
    end)

    it("refuses what it can't search", function()
      local x = fp8.tensor({1, 2}, options)
      support.fails("searchsorted: argument 2: tensor or number expected, got nil", function() x:searchsorted() end)
      support.fails("searchsorted: argument 2: tensor or number expected, got string", function()
        x:searchsorted "1"
      end)
      support.fails("searchsorted: unknown option side", function() x:searchsorted(x, {side = "right"}) end)
      support.fails("bucketize: argument 2: a tensor of 1 dimension is needed, got shape (1, 2)", function()
        x:bucketize(x:view(1, 2))
      end)
    end)
  end)
end)

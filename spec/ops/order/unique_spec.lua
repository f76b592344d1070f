-- Different elements.
local fp8 = require "fp8"
local support = require "spec.support"

--- What unique gives of a list without NaN: values, inverse and counts.
local function by_hand(list)
  local values, places, inverse, counts = {}, {}, {}, {}
  for _, value in ipairs(list) do
    if not places[value] then
      places[value] = true
      table.insert(values, value)
    end
  end
  table.sort(values)
  for i, value in ipairs(values) do places[value], counts[i] = i - 1, 0 end
  for i, value in ipairs(list) do
    inverse[i] = places[value]
    counts[places[value] + 1] = counts[places[value] + 1] + 1
  end
  return values, inverse, counts
end

support.each_device(function(device)
  local options = {device = device}
  local everything = {return_inverse = true, return_counts = true}

  describe("unique", function()
    it("gives what there is in order, where it is, and how often, of every dtype", function()
      for _, dtype in ipairs {"f32", "f16", "bf16", "e4m3", "e5m2", "u8", "i32", "i64"} do
        for _, shape in ipairs {{1}, {40}, {5, 8}, {3, 1, 50}} do
          local x = fp8.randint(0, 9, shape, {device = device}):to(dtype)
          if dtype ~= "u8" and dtype ~= "i32" then x = x - 4 end
          for _, tensor in ipairs {x, x:transpose(1, -1)} do
            local values, inverse, counts = by_hand(support.flat(tensor))
            local found, where, often = tensor:unique(everything)
            assert.same({dtype, "i64", "i64"}, {found.dtype, where.dtype, often.dtype})
            assert.same(tensor.shape, where.shape)
            assert.same({values, inverse, counts}, {found:totable(), support.flat(where), often:totable()})
            support.equal(found:index_select(1, where:contiguous():view(-1)), tensor:contiguous():view(-1))
          end
        end
      end
    end)

    it("gives what is asked for, in PyTorch's order", function()
      local x = fp8.tensor({3, 1, 3}, options)
      assert.same({1, 1, 2, 3}, {
        select("#", x:unique()), select("#", x:unique {sorted = false}), select("#", x:unique {return_counts = true}),
        select("#", x:unique(everything)),
      })
      assert.same({1, 2}, select(2, x:unique {return_counts = true}):totable())
      assert.same({1, 0, 1}, select(2, x:unique {return_inverse = true}):totable())
      support.fails("unique: unknown option dimension", function() x:unique {dimension = 1} end)
      support.fails("unique: argument 1: tensor expected, got number", function() fp8.unique(3) end)
    end)

    it("takes each NaN for itself, and both zeros for one", function()
      local nan = 0 / 0
      local values, inverse, counts = fp8.tensor({3, nan, 1, nan, 3}, options):unique(everything)
      support.equal(values, fp8.tensor {1, 3, nan, nan})
      assert.same({{1, 2, 0, 3, 1}, {1, 2, 1, 1}}, {inverse:totable(), counts:totable()})
      values, inverse, counts = fp8.tensor({0.0, -0.0}, options):unique(everything)
      assert.same({{0}, {0, 0}, {2}}, {values:totable(), inverse:totable(), counts:totable()})
    end)

    it("takes empty tensors and those without dimensions", function()
      for _, f in ipairs {fp8.unique, fp8.unique_consecutive} do
        local values, inverse, counts = f(fp8.zeros(0, 3, options), everything)
        assert.same({{0}, {0, 3}, {0}}, {values.shape, inverse.shape, counts.shape})
        values, inverse, counts = f(fp8.tensor(3, options), everything)
        assert.same({{3}, {}, 0, {1}}, {values:totable(), inverse.shape, inverse:item(), counts:totable()})
      end
    end)

    it("is right of many", function()
      local x = fp8.randint(-1000000, 1000000, {200000}, options)
      local values, inverse, counts = x:unique(everything)
      support.equal(values:index_select(1, inverse), x)
      local n = values:numel()
      assert.equal(1, values:narrow(1, 2, n - 1):gt(values:narrow(1, 1, n - 1)):all():item())
      assert.equal(200000, counts:sum():item())
      support.equal(inverse:bincount(), counts)
    end)
  end)

  describe("unique_consecutive", function()
    it("leaves out what equals the one before", function()
      local values, inverse, counts = fp8.tensor({1, 1, 2, 1}, options):unique_consecutive(everything)
      assert.same({{1, 2, 1}, {0, 0, 1, 2}, {2, 1, 1}}, {values:totable(), inverse:totable(), counts:totable()})
      local whole = fp8.tensor({{1, 1}, {1, 2}}, {dtype = "i32", device = device})
      values, inverse, counts = whole:unique_consecutive(everything)
      assert.same({{1, 2}, {{0, 0}, {0, 1}}, {3, 1}}, {values:totable(), inverse:totable(), counts:totable()})
      values, counts = fp8.tensor({0 / 0, 0 / 0}, options):unique_consecutive {return_counts = true}
      assert.same({2, {1, 1}}, {values:numel(), counts:totable()})
      support.fails("unique_consecutive: unknown option sorted", function()
        fp8.tensor({1}, options):unique_consecutive {sorted = true}
      end)
    end)
  end)
end)

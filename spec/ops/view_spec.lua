-- Views: shapes, strides, and that they share memory.
local fp8 = require "fp8"
local support = require "spec.support"

support.each_device(function(device)
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

    it("without elements have no gaps", function()
      for _, empty in ipairs {fp8.zeros(0, {device = device}):view(0, 5, 3), x:narrow(1, 1, 0):transpose(1, 3)} do
        assert.is_true(empty:is_contiguous())
        assert.equal(empty, empty:contiguous())
      end
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

    it("flatten the dimensions that there are", function()
      local cube = fp8.zeros(2, 3, 4, {device = device})
      assert.same({24}, cube:flatten().shape)
      assert.same({6, 4}, cube:flatten(1, 2).shape)
      assert.same({2, 12}, cube:flatten(-2, 3).shape)
      for _, ends in ipairs {{0, 1}, {1, 4}, {-4, 2}, {3, 2}} do
        support.fails("flatten: dimensions", cube.flatten, cube, unpack(ends))
      end
      local number = fp8.tensor(5, {device = device})
      for _, ends in ipairs {{}, {1}, {1, 1}, {-1, -1}, {-1, 1}} do
        assert.same({5}, number:flatten(unpack(ends)):totable())
      end
      for _, ends in ipairs {{2}, {3, -5}, {0}, {1, 2}, {-2, -1}, {1, 0}} do
        support.fails("of a tensor of 0 dimensions", number.flatten, number, unpack(ends))
      end
    end)

    it("of random shapes and orders agree with their elements", function()
      local random = support.random(3)
      for _ = 1, 50 do
        local sizes = {}
        for d = 1, random(5) do sizes[d] = random(4) end
        local order = support.permutation(random, #sizes)
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
end)

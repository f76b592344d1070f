-- Pieces, repetitions and arrangements: what PyTorch's fixtures (pytorch_spec) don't say: memory that is shared,
-- dtypes, sizes of 0, wrong arguments.
local fp8 = require "fp8"
local support = require "spec.support"

local dtypes = {"f32", "f16", "bf16", "e4m3", "e5m2", "u8", "i32", "i64"}

support.each_device(function(device)
  local on = {device = device}

  describe("Pieces of a tensor", function()
    it("share its memory", function()
      local x = fp8.arange(6, on):view(2, 3)
      x:unbind(2)[2]:fill_(9)
      x:chunk(2)[2]:narrow(2, 1, 1):fill_(7)
      x:split({1, 2}, -1)[1]:narrow(1, 1, 1):fill_(5)
      x:movedim(1, 2)[3][1] = 4
      assert.same({{5, 9, 4}, {7, 9, 5}}, x:totable())
    end)

    it("may be empty", function()
      local x = fp8.zeros(0, 3, on)
      assert.same({0, 3}, x:chunk(2)[1].shape)
      assert.equal(1, #x:split(2))
      assert.same({}, x:unbind())
      assert.same({0}, fp8.zeros(0, on):split({0, 0})[2].shape)
    end)

    it("have a size and a dimension that fit", function()
      local x = fp8.zeros(4, 3, on)
      support.fails("chunk: the number of chunks must be a whole number from 1 on, got 0", function() x:chunk(0) end)
      support.fails("split: the sizes add up to 3, the dimension has 4", function() x:split {1, 2} end)
      support.fails("split: a size must be a whole number from 0 on, got -1", function() x:split {5, -1} end)
      support.fails("split: dimension 3 of a tensor of 2 dimensions", function() x:split(1, 3) end)
      support.fails("unbind: dimension 1 of a tensor of 0 dimensions", function() fp8.zeros({}, on):unbind() end)
      support.fails("chunk: argument 1: tensor expected, got number", function() fp8.chunk(3, 2) end)
    end)
  end)

  describe("Arrangements", function()
    it("take every dtype", function()
      for _, dtype in ipairs(dtypes) do
        local x = fp8.tensor({{1, 2}, {3, 4}}, {dtype = dtype, device = device}):t()
        for _, name in ipairs {"tile", "flip", "roll", "triu", "tril", "diag"} do
          local y = x[name](x, 1)
          assert.equal(dtype, y.dtype)
          support.equal(y:float(), x:float()[name](x:float(), 1))
        end
        assert.same({{0, 1}, {0, 0}}, x[1][1]:view(1):diag(1):totable())
      end
    end)

    it("have memory of their own, whatever the numbers", function()
      for _, arranged in ipairs {
        function(x) return x:tile(3) end, function(x) return x:tile(1, 1) end, function(x) return x:flip {} end,
        function(x) return x:flip(1) end, function(x) return x:roll(0) end, function(x) return x:roll(2, 1) end,
        function(x) return x:roll({}, {}) end, function(x) return x:triu(-5) end,
      } do
        local x = fp8.ones(1, 1, on)
        local y = arranged(x)
        local count = y:numel()
        y:view(-1)[1] = 7
        assert.equal(1, x:item())
        assert.equal(count - 1, y:eq(1):sum():item())
      end
    end)

    it("take tensors without dimensions or elements", function()
      local x = fp8.tensor(7, on)
      assert.same({7, 7}, x:tile(2):totable())
      assert.same({}, x:flip().shape)
      assert.same({}, x:roll(3).shape)
      assert.same({}, x:movedim({}, {}).shape)
      local none = fp8.zeros(2, 0, on)
      assert.same({4, 0}, none:tile(2, 3).shape)
      assert.same({2, 0}, none:flip(1, 2).shape)
      assert.same({2, 0}, none:roll(1, 2).shape)
      assert.same({2, 0}, none:triu().shape)
      assert.same({0}, none:diag().shape)
      assert.same({0, 0}, fp8.zeros(0, on):diag().shape)
      assert.same({2, 2}, fp8.zeros(0, on):diag(2).shape)
      assert.same({0, 3}, fp8.ones(2, 3, on):tile(0, 1).shape)
      assert.same({0}, fp8.ones(2, 3, on):diag(5).shape)
    end)

    it("leave what NaN and infinity are beside a triangle out", function()
      local x = fp8.full({2, 2}, 0 / 0, on)
      assert.equal(0, x:tril():totable()[1][2])
      assert.equal(0, fp8.full({2}, math.huge, on):diag():totable()[1][2])
    end)

    it("refuse what does not fit", function()
      local x = fp8.zeros(2, 3, on)
      support.fails("tile: a number of times must be a whole number from 0 on, got -1", function() x:tile(-1) end)
      support.fails("tile: the numbers: element 1 of the list is missing", function() x:tile(nil, 2) end)
      support.fails("flip: dimension 1 is given twice", function() x:flip(-2, 1) end)
      support.fails("roll: 2 shifts of 1 dimensions", function() x:roll({1, 2}, 1) end)
      support.fails("roll: a shift must be a whole number, got 0.5", function() x:roll(0.5) end)
      support.fails("movedim: a dimension or a place is given twice", function() x:movedim({1, 2}, {1, 1}) end)
      support.fails("movedim: 2 dimensions to 1 places", function() x:movedim({1, 2}, 1) end)
      support.fails("triu: a matrix or a batch of them is needed, got shape (3)", function() x[1]:triu() end)
      support.fails("diag: a vector or a matrix is needed, got shape (1, 2, 3)", function() x:unsqueeze(1):diag() end)
    end)
  end)

  describe("Products by name", function()
    it("refuse other shapes", function()
      local x = fp8.zeros(2, 3, on)
      support.fails("mv: argument 2: a tensor of 1 dimension is needed, got shape (2, 3)", function() x:mv(x) end)
      support.fails("bmm: batches of 2 and 3 matrices", function()
        fp8.zeros(2, 1, 1, on):bmm(fp8.zeros(3, 1, 1, on))
      end)
      support.fails("addmm: shape (4, 2, 2) does not broadcast to (2, 2)", function()
        fp8.zeros(4, 2, 2, on):addmm(x, x:t())
      end)
      support.fails("addmm: unknown option gamma", function() x:addmm(x, x:t(), {gamma = 1}) end)
    end)

    it("add before they round", function()
      local random = fp8.randn(3, 8, on)
      for _, dtype in ipairs {"f16", "bf16"} do
        local x, a = random:narrow(2, 1, 3):to(dtype), random:to(dtype)
        local exact = x:float() * 0.5 + a:float():matmul(a:t():float()) * 3
        support.equal(x:addmm(a, a:t(), {beta = 0.5, alpha = 3}), exact:to(dtype))
      end
      local bad = fp8.full({3, 3}, 0 / 0, on)
      assert.equal(1, bad:addmm(random, random:t(), {beta = 0}):isfinite():all():item())
    end)
  end)
end)

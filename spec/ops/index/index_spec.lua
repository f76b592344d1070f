-- Rows and elements picked by index, and sums of rows by index.
local core = require "fp8.core"
local fp8 = require "fp8"
local support = require "spec.support"

support.each_device(function(device)
  local options = {device = device}
  local function positions(values, dtype) return fp8.tensor(values, {dtype = dtype or "i64", device = device}) end

  describe("Sums by an index", function()
    local function whole(dtype, ...) return fp8.randint(-3, 4, {...}, options):to(dtype) end

    it("of many slices are those in the order of the index", function()
      local rows, picks, width = 1000, 50000, 8
      local index = fp8.randint(0, rows / 2, {picks}, {dtype = "i64", device = device})
      for _, dtype in ipairs {"f32", "bf16"} do
        local x, source = whole(dtype, rows, width), whole(dtype, picks, width)
        local sums, places, added = x:float():totable(), index:totable(), source:float():totable()
        for i = 1, picks do
          local sum = sums[places[i] + 1]
          for j = 1, width do sum[j] = sum[j] + added[i][j] end
        end
        support.equal(x:index_add(1, index, source), fp8.tensor(sums, options):to(dtype))
        support.equal(core.index_add({rows, width}, 1, index, source, "f32"),
          fp8.zeros(rows, width, options):index_add(1, index, source:float()))
      end
    end)

    it("of elements of rows are rounded once", function()
      for _, dtype in ipairs {"f32", "f16", "bf16"} do
        for _, size in ipairs {{3, 50, 70}, {200, 24, 9}, {2, 30, 5000}} do
          local rows, length, picks = unpack(size)
          local x, source = whole(dtype, rows, length), whole(dtype, rows, picks)
          local index = fp8.randint(0, length, {rows, picks}, {dtype = "i64", device = device})
          local sums, places, added = x:float():totable(), index:totable(), source:float():totable()
          for i = 1, rows do
            for j = 1, picks do
              local to = places[i][j] + 1
              sums[i][to] = sums[i][to] + added[i][j]
            end
          end
          support.equal(x:scatter_add(2, index, source), fp8.tensor(sums, options):to(dtype))
        end
      end
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

    it("are right along rows that take several chunks, in every dtype", function()
      for _, dtype in ipairs {"f32", "bf16", "u8", "i64"} do
        local x = fp8.randint(0, 200, {3, 1500}, options):to(dtype)
        local index = fp8.randint(0, 1500, {3, 1300}, {dtype = "i64", device = device})
        local values, places = x:totable(), index:totable()
        local picked, chosen = x:gather(2, index):totable(), x:index_select(2, index[1]):totable()
        for i = 1, 3 do
          for j = 1, 1300, 7 do
            assert.equal(values[i][places[i][j] + 1], picked[i][j])
            assert.equal(values[i][places[1][j] + 1], chosen[i][j])
          end
        end
        index:narrow(2, 1299, 1):fill_(1500)
        support.fails("1500 is out of range", function() x:gather(2, index):totable() end)
      end
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

  describe("index_add", function()
    it("is right where most rows go to one place", function()
      local index = {}
      for i = 1, 4000 do index[i] = i % 5 == 0 and i % 90 or 17 end
      local sums = core.index_add({90, 3}, 1, positions(index), fp8.ones(4000, 3, options)):totable()
      assert.equal(3200 + 0, sums[18][1])
      local total = 0
      for i = 1, 90 do total = total + sums[i][2] end
      assert.equal(4000, total)
    end)

    it("adds rows and elements of any dtype, also where they take several chunks", function()
      local index = fp8.randint(0, 9, {700}, {dtype = "i64", device = device})
      local places = index:totable()
      for _, dtype in ipairs {"f32", "f16", "bf16", "e4m3", "u8", "i64"} do
        for _, shape in ipairs {{700, 600}, {700, 5}, {2, 700}} do
          local x = fp8.randint(0, 3, shape, options):to(dtype)
          local dimension = shape[1] == 700 and 1 or 2
          local size = dimension == 1 and {9, shape[2]} or {2, 9}
          local values, expected = x:totable(), fp8.zeros(size):totable()
          for i = 1, shape[1] do
            for j = 1, shape[2] do
              local row, column = i, places[j] and places[j] + 1
              if dimension == 1 then row, column = places[i] + 1, j end
              expected[row][column] = expected[row][column] + values[i][j]
            end
          end
          assert.same(expected, core.index_add(size, dimension, index, x, "f32"):totable())
        end
      end
    end)

    it("is the gradient of index_select along any dimension", function()
      fp8.manual_seed(2)
      local x = fp8.randn(3, 4, 5, options):requires_grad_()
      for dimension = 1, 3 do
        x.grad = nil
        local index = fp8.tensor({1, 0, 1, 2}, {device = device, dtype = "i32"})
        local y = x:index_select(dimension, index)
        local dy = fp8.randn(y.shape, options)
        y:backward(dy)
        local moved, parts = dy:transpose(1, dimension), {}
        local zero = fp8.zeros(moved[1].shape, options)
        for i = 1, x:size(dimension) do parts[i] = ({moved[2], moved[1] + moved[3], moved[4]})[i] or zero end
        support.close(x.grad, fp8.stack(parts, 1):transpose(1, dimension), 1e-6)
      end
    end)
  end)

  describe("Operations that put by index", function()
    local x = fp8.arange(12, options):view(3, 4)
    local places, values = positions {{2, 0, 1, 2}, {0, 1, 2, 0}}, -fp8.arange(8, options):view(2, 4) - 1

    it("do in place what they do in a copy, in views of any strides, and leave the others as they are", function()
      local list, rows = positions {2, 0}, fp8.ones(2, 4, options)
      local mask = fp8.tensor({{1, 0, 1, 0}}, {dtype = "u8", device = device})
      for name, arguments in support.sorted_pairs {
        scatter = {1, places, values}, scatter_add = {1, places, values}, scatter_reduce = {1, places, values, "amin"},
        index_add = {1, list, rows}, index_copy = {1, list, rows}, index_fill = {1, list, 7},
        index_put = {{list, list}, 5}, masked_scatter = {mask, values},
      } do
        local y = x[name](x, unpack(arguments))
        assert.is_false(fp8.equal(x, y), name)
        local whole = fp8.zeros(4, 6, options)
        local part = whole:t():narrow(1, 2, 4):narrow(2, 1, 3):t()
        assert.is_false(part:is_contiguous())
        part:copy_(x)
        assert.equal(part, part[name .. "_"](part, unpack(arguments)), name)
        support.equal(part, y)
        assert.equal(part:sum():item(), whole:sum():item())
        assert.same({0, 1, 2, 3}, x[1]:totable())
      end
    end)

    it("take a source with more than the index needs", function()
      local wide = fp8.arange(20, options):view(2, 10):requires_grad_()
      local y = fp8.zeros(3, 4, options):scatter_add(2, positions {{3, 0}}, wide)
      assert.same({{1, 0, 0, 0}, {0, 0, 0, 0}, {0, 0, 0, 0}}, y:totable())
      y:sum():backward()
      assert.equal(2, wide.grad:sum():item())
      assert.same({{1, 0, 0, 0}, {5, 5, 5, 5}, {5, 5, 5, 5}},
        fp8.full({3, 4}, 5, options):scatter_(2, positions {{3, 0, 1, 2}},
          fp8.tensor({{0, 1, 0, 0}, {9, 9, 9, 9}}, options)):totable())
    end)

    it("keep the last of several in order", function()
      fp8.set_deterministic(true)
      local list = fp8.arange(1, 5, options)
      assert.same({3, 0, 4}, fp8.zeros(3, options):scatter(1, positions {2, 0, 0, 2}, list):totable())
      local rows = fp8.arange(8, options):view(4, 2)
      assert.same({{4, 5}, {6, 7}}, fp8.zeros(2, 2, options):index_copy(1, positions {0, 1, 0, 1}, rows):totable())
      fp8.set_deterministic(false)
    end)

    it("sum as the reference does, in every dtype, and whatever the order is", function()
      local random = support.random(7)
      for _, dtype in ipairs {"f32", "f16", "bf16", "e4m3", "u8", "i32", "i64"} do
        local list, index, expected = {}, {}, {[0] = 0, 0, 0}
        for i = 1, 300 do
          list[i], index[i] = random(4), random(3) - 1
          expected[index[i]] = expected[index[i]] + list[i]
        end
        local source = fp8.tensor(list, {dtype = dtype, device = device})
        for _, name in ipairs {"scatter_add", "index_add"} do
          local zeros = fp8.zeros(3, {dtype = dtype, device = device})
          local y = zeros[name](zeros, 1, positions(index), source)
          assert.equal(dtype, y.dtype)
          local rounded = fp8.tensor({expected[0], expected[1], expected[2]})
          if dtype == "u8" then rounded = rounded:to "i64":remainder(256) end
          assert.same(rounded:to(dtype):totable(), y:totable(), dtype .. name)
        end
      end
    end)

    it("round sums of 16 bits once", function()
      local ones = fp8.full({1024}, 1, {dtype = "bf16", device = device})
      local zero = fp8.full({1}, 256, {dtype = "bf16", device = device})
      local index = fp8.zeros(1024, {dtype = "i64", device = device})
      for _, name in ipairs {"scatter_add", "index_add"} do
        assert.equal(1280, zero[name](zero, 1, index, ones):item())
      end
    end)

    it("wrap integers around", function()
      local function sum(dtype, start, ...)
        local source = fp8.tensor({...}, {dtype = dtype, device = device})
        local x1 = fp8.tensor({start}, {dtype = dtype, device = device})
        return x1:scatter_add(1, fp8.zeros(source:numel(), {dtype = "i64", device = device}), source):item()
      end
      assert.equal(255 + 255 + 3 - 512, sum("u8", 255, 255, 3))
      assert.equal(-2 ^ 31, sum("i32", 2 ^ 31 - 1, 1))
      assert.is_true(sum("i64", 2 ^ 53, 2 ^ 53, 1) == 18014398509481985LL)
      local u8 = fp8.tensor({16}, {dtype = "u8", device = device})
      local i32 = fp8.tensor({2 ^ 30}, {dtype = "i32", device = device})
      assert.equal(32, u8:scatter_reduce(1, positions {0}, u8 + 2, "prod"):item())
      assert.equal(0, i32:scatter_reduce(1, positions {0}, i32, "prod"):item())
      assert.equal(16, u8:scatter_reduce(1, positions {0}, u8, "amax", {include_self = false}):item())
    end)

    it("let NaN through", function()
      local nan = 0 / 0
      local start = fp8.tensor({1, nan, 1}, options)
      for _, rule in ipairs {"sum", "prod", "amax", "amin"} do
        local y = start:scatter_reduce(1, positions {0, 1, 2}, fp8.tensor({nan, 1, 2}, options), rule)
        assert.same({1, 1, 0}, y:isnan():totable(), rule)
      end
    end)

    it("do nothing with no positions, or no elements", function()
      local none = fp8.empty(0, options)
      assert.same({1, 1}, fp8.ones(2, options):scatter(1, positions {}, none):totable())
      assert.same({1, 1}, fp8.ones(2, options):index_add(1, positions {}, none):totable())
      assert.same({1, 1}, fp8.ones(2, options):index_fill(1, positions {}, 3):totable())
      assert.same({0, 2}, fp8.ones(0, 2, options):index_copy(2, positions {1}, fp8.ones(0, 1, options)).shape)
      assert.same({2, 0}, fp8.ones(2, 0, options):index_fill(1, positions {1}, 3).shape)
      assert.same({}, fp8.ones(3, options):take(positions {}):totable())
    end)

    it("take dtypes of all kinds, floats of 8 bits included", function()
      for _, dtype in ipairs {"f16", "bf16", "e4m3", "e5m2", "u8", "i32", "i64"} do
        local y = fp8.tensor({1, 2, 3, 4}, {dtype = dtype, device = device})
        local source = fp8.tensor({5, 6}, {dtype = dtype, device = device})
        assert.same({6, 2, 3, 5}, y:scatter(1, positions {3, 0}, source):totable())
        assert.same({6, 2, 3, 5}, y:index_copy(1, positions {3, 0}, source):totable())
        assert.same({7, 2, 3, 7}, y:index_fill(1, positions {3, 0}, 7):totable())
        assert.same({6, 2, 3, 5}, y:scatter_reduce(1, positions {3, 0}, source, "amax"):totable())
      end
      local long = fp8.zeros(1, {dtype = "i64", device = device})
      assert.is_true(long:index_fill(1, positions {0}, 9007199254740993LL):item() == 9007199254740993LL)
    end)

    it("write into a tensor that is its own source, or its own index", function()
      local y = fp8.arange(4, options)
      y:scatter_(1, positions {3, 2, 1, 0}, y)
      assert.same({3, 2, 1, 0}, y:totable())
      local index = positions {1, 2, 0}
      index:scatter_(1, index, index)
      assert.same({0, 1, 2}, index:totable())
    end)

    it("refuse positions out of range, and change nothing", function()
      for _, wrong in ipairs {3, -1, 2 ^ 33} do
        local y = x:clone()
        support.fails("out of range", function() y:scatter_(1, positions {{0, wrong, 0, 0}}, 1):totable() end)
        support.fails("out of range", function() y:scatter_add_(1, positions {{0, wrong, 0, 0}}, values):totable() end)
        support.fails("out of range", function() y:index_fill_(1, positions {0, wrong}, 1):totable() end)
        support.fails("out of range", function() y:index_add_(1, positions {0, wrong}, values):totable() end)
        local column = positions {wrong > 0 and wrong + 1 or wrong}
        support.fails("out of range", function() y:index_put_({positions {0}, column}, 1):totable() end)
        support.fails("out of range", function() y:take(positions {wrong * 4}):totable() end)
        if device == "cpu" then support.equal(y, x) end -- on a GPU those in range are written
      end
    end)

    it("refuse what does not fit", function()
      local y, list = x:clone(), positions {0, 1}
      local half = values:half()
      support.fails("scatter_: an index of shape (2, 3) does not fit shape (3, 2) outside dimension 1",
        function() x[{{}, {1, 2}}]:scatter_(1, positions {{0, 0, 0}, {0, 0, 0}}, 1) end)
      support.fails("scatter_: a source of dtype f16 does not fit a tensor of dtype f32",
        function() y:scatter_(1, places, half) end)
      support.fails("a source of dtype i64 does not fit", function() y:scatter_add_(1, places, places) end)
      support.fails("index_copy_: a source of shape (2, 4) is needed, got (3, 4)",
        function() y:index_copy_(1, list, x) end)
      support.fails("index_add: argument 4: tensor expected, got number", function() y:index_add(1, list, 1) end)
      support.fails("index_add: option alpha must be a number", function() y:index_add(1, list, x, {alpha = "1"}) end)
      support.fails("index_fill: argument 4: number expected, got userdata", function() y:index_fill(1, list, x) end)
      support.fails("sum, prod, amax or amin expected, got mean",
        function() y:scatter_reduce(1, places, values, "mean") end)
      support.fails("scatter: dimension 3 of a tensor of 2", function() y:scatter(3, places, values) end)
      support.fails("can't write to an expanded tensor", function() y:expand(2, 3, 4):index_fill_(1, list, 1) end)
      support.fails("index_put: 1 to 2 tensors of positions", function() y:index_put({}, 1) end)
      support.fails("index_put: values of shape (3) does not broadcast to (2, 4)",
        function() y:index_put({list}, fp8.ones(3, options)) end)
      support.fails("index_put: argument 4: boolean expected", function() y:index_put({list}, 1, 1) end)
      support.fails("masked_scatter: the mask has 12 places, the source 8 elements",
        function() y:masked_scatter(x:ge(0), values) end)
      support.fails("masked_scatter: argument 2: a mask of dtype u8 is needed", function()
        y:masked_scatter(x, values)
      end)
      support.fails("masked_scatter: a mask of shape (3) does not broadcast to (3, 4)", function()
        y:masked_scatter(x:narrow(2, 1, 1):ge(0):view(3), values)
      end)
      support.equal(y, x)
    end)

    it("in place refuse gradients that would be lost", function()
      local w = fp8.ones(2, 4, {device = device, requires_grad = true})
      support.fails("scatter_: the argument requires a gradient", function() x:clone():scatter_(1, places, w) end)
      support.fails("index_put_: the argument requires a gradient", function()
        x:clone():index_put_({positions {0, 1}}, w)
      end)
      support.fails("index_fill_: this tensor requires a gradient", function() w:index_fill_(1, positions {0}, 1) end)
      fp8.no_grad(function() w:index_fill_(1, positions {0}, 3) end)
      assert.same({3, 3, 3, 3}, w[1]:totable())
    end)
  end)
end)

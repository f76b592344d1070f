-- x[key] and x[key] = value: positions, slices, masks and tensors of indices.
local fp8 = require "fp8"
local support = require "spec.support"

support.each_device(function(device)
  local options = {device = device}
  local function on(values, dtype) return fp8.tensor(values, {dtype = dtype or "f32", device = device}) end

  --- Every position of a dimension of `size` that an entry names, from 1.
  local function positions_of(entry, size)
    local function from_first(position) return position < 0 and position + size + 1 or position end
    if type(entry) == "number" then return {from_first(entry)} end
    local list = {}
    for i = from_first(entry[1] or 1), from_first(entry[2] or size), entry[3] or 1 do list[#list + 1] = i end
    return list
  end

  local function random_entry(random, size)
    local kind = random(4)
    if kind == 1 then return {} end
    if kind == 2 then return random(2) == 1 and random(size) or -random(size) end
    local first = random(size)
    local last = first - 1 + random(size - first + 2) - 1
    if kind == 3 or last < first then return {first, last} end
    return {first - (random(2) - 1) * (size + 1), last, random(3)}
  end

  describe("x[{…}]", function()
    it("selects, narrows and strides as nested tables do, and writes the same places", function()
      local random = support.random(3)
      local shape = {3, 4, 2, 5}
      for _ = 1, 200 do
        local x = fp8.arange(120, options):view(shape)
        if random(2) == 1 then x = x:permute(4, 3, 2, 1):contiguous():permute(4, 3, 2, 1) end
        local key, places = {}, {}
        for d = 1, random(4) do key[d] = random_entry(random, shape[d]) end
        for d = 1, 4 do places[d] = positions_of(key[d] or {}, shape[d]) end
        local expected, inside = {}, {}
        for _, a in ipairs(places[1]) do
          for _, b in ipairs(places[2]) do
            for _, c in ipairs(places[3]) do
              for _, d in ipairs(places[4]) do
                local value = ((a - 1) * 4 + b - 1) * 10 + (c - 1) * 5 + d - 1
                expected[#expected + 1], inside[value] = value, true
              end
            end
          end
        end
        local part = x[key]
        assert.same(expected, support.flat(part))
        local sizes = {}
        for d = 1, 4 do
          if type(key[d] or {}) == "table" then sizes[#sizes + 1] = #places[d] end
        end
        assert.same(sizes, part.shape)
        x[key] = -1
        for i, value in ipairs(support.flat(x)) do assert.equal(inside[i - 1] and -1 or i - 1, value) end
      end
    end)

    it("is a view", function()
      local x = fp8.zeros(3, 4, options)
      x[{{2, 3}, {1, 4, 3}}]:fill_(1)
      x[{}][{1, 1}] = 5
      x[{3}][2] = 7
      assert.same({{5, 0, 0, 0}, {1, 0, 0, 1}, {1, 7, 0, 1}}, x:totable())
    end)

    it("takes values that broadcast, of other dtypes, and parts of itself", function()
      local x = fp8.zeros(2, 3, options)
      x[{{}, {2, 3}}] = on({1.5, 2}, "f16")
      assert.same({{0, 1.5, 2}, {0, 1.5, 2}}, x:totable())
      x[{{}, {1, 2}}] = x[{{}, {2, 3}}]
      assert.same({{1.5, 2, 2}, {1.5, 2, 2}}, x:totable())
      x[{{}, 1}] = on {7, 8}
      assert.same({{7, 2, 2}, {8, 2, 2}}, x:totable())
      local long = on({1, 2}, "i64")
      long[{{2, 2}}] = 9007199254740993LL
      assert.is_true(long[2]:item() == 9007199254740993LL)
    end)

    it("has a length, and rows", function()
      local x = on {{1, 2}, {3, 4}, {5, 6}}
      assert.equal(3, #x)
      local seen = {}
      for i, row in x:rows() do
        seen[i] = row:totable()
        row[1] = 0
      end
      assert.same({{1, 2}, {3, 4}, {5, 6}}, seen)
      assert.same({{0, 2}, {0, 4}, {0, 6}}, x:totable())
      for _ in fp8.zeros(0, 2, options):rows() do error "no rows" end
    end)
  end)

  describe("x[mask] and x[indices]", function()
    local x = fp8.arange(12, options):view(3, 2, 2)

    it("pick slices as copies", function()
      local mask = on({{1, 0}, {0, 0}, {2, 1}}, "u8")
      assert.same({{0, 1}, {8, 9}, {10, 11}}, x[mask]:totable())
      assert.same({{{4, 5}, {6, 7}}}, x[on({0, 1, 0}, "u8")]:totable())
      assert.same({5, 6, 7, 8, 9, 10, 11}, x[x:gt(4)]:totable())
      assert.same({0, 2}, x[on({{0, 0}, {0, 0}, {0, 0}}, "u8")].shape)
      for _, dtype in ipairs {"i64", "i32"} do
        assert.same({{{8, 9}, {10, 11}}, {{0, 1}, {2, 3}}}, x[on({2, 0}, dtype)]:totable())
        assert.same({2, 1, 2, 2}, x[on({{2}, {0}}, dtype)].shape)
      end
      local y = x[on({0}, "i64")]
      y:fill_(9)
      assert.equal(0, x[{1, 1, 1}]:item())
    end)

    it("take numbers, slices and what broadcasts, in tensors of any strides", function()
      local mask = on({{1, 0}, {0, 0}, {1, 1}}, "u8")
      for _, turned in ipairs {false, true} do
        local function copy()
          return turned and x:transpose(1, 3):clone():transpose(1, 3) or x:clone()
        end
        local y = copy()
        y[mask] = -1
        assert.same({-1, -1, 2, 3, 4, 5, 6, 7, -1, -1, -1, -1}, support.flat(y))
        y = copy()
        y[mask] = on({{1, 2}, {3, 4}, {5, 6}}, "i64")
        assert.same({1, 2, 2, 3, 4, 5, 6, 7, 3, 4, 5, 6}, support.flat(y))
        y = copy()
        y[mask] = on {-1, -2}
        assert.same({-1, -2, 2, 3, 4, 5, 6, 7, -1, -2, -1, -2}, support.flat(y))
        y[on({0, 2}, "i32")] = on({{50, 60}}, "i32")
        assert.same({50, 60, 50, 60, 4, 5, 6, 7, 50, 60, 50, 60}, support.flat(y))
        y[on({}, "i64")] = 3
        y[x:lt(0)] = 3
        assert.same({50, 60, 50, 60, 4, 5, 6, 7, 50, 60, 50, 60}, support.flat(y))
      end
    end)

    it("keep the dtype", function()
      for _, dtype in ipairs {"f16", "bf16", "e4m3", "u8", "i32", "i64"} do
        local y = on({1, 2, 3}, dtype)
        y[y:gt(1)] = 4
        y[on({0}, "i64")] = 5.0
        assert.equal(dtype, y.dtype)
        assert.same({5, 4, 4}, y:totable())
        y[y:eq(4)] = on {6, 7}
        assert.same({5, 6, 7}, y:totable())
      end
    end)
  end)

  describe("An assignment", function()
    it("is refused to leaves that require a gradient, and to views of them, outside no_grad", function()
      local w = fp8.ones(2, 3, {device = device, requires_grad = true})
      for _, assign in ipairs {
        function() w[1] = 0 end, function() w[{1, {}}] = 0 end, function() w[1][2] = 0 end,
        function() w:t()[{{1, 2}}] = w end, function() w[w:gt(0)] = 0 end, function() w[on({1}, "i64")] = 0 end,
      } do
        support.fails("can't be assigned to", assign)
      end
      assert.equal(6, w:sum():item())
      fp8.no_grad(function()
        w[1] = 0
        w[w:gt(0)] = 2
      end)
      assert.same({{0, 0, 0}, {2, 2, 2}}, w:totable())
      w:sum():backward()
      assert.same({{1, 1, 1}, {1, 1, 1}}, w.grad:totable())
    end)

    it("makes a tensor that required no gradient the result of what it got", function()
      local w = on({1, 2}):requires_grad_()
      local x = fp8.zeros(2, 2, options)
      assert.is_false(x.requires_grad)
      x[1] = w * 3
      assert.is_true(x.requires_grad)
      assert.is_false(x.is_leaf)
      x:square():sum():backward()
      assert.same({18, 36}, w.grad:totable())
    end)

    it("makes tensors that share the memory unusable where gradients are recorded, and nowhere else", function()
      local w = on({1, 2}):requires_grad_()
      local x = w * 2
      local view = x:view(1, 2)
      x[1] = 5
      support.fails("shares its memory with one that was assigned to", function() return view * 2 end)
      assert.same({{10, 8}}, fp8.no_grad(function() return view * 2 end):totable())
      assert.same({{10, 8}}, (view:detach() * 2):totable())
      assert.same({{10, 8}}, (x:view(1, 2) * 2):totable())
      support.fails("shares its memory with one that was assigned to", function() return view:t() * 2 end)
      -- Of the tensor whose view is assigned to.
      local y = w * 2
      y:view(2, 1)[1] = 5
      support.fails("assign as x[{i, j}] = value", function() return y:sum() end)
      -- Of one that required no gradient.
      local z, other = fp8.zeros(2, 2, options), fp8.zeros(2, 2, options)
      z[1][2] = w[1]
      support.fails("assign as x[{i, j}] = value", function() return z:sum() end)
      support.fails("assign as x[{i, j}] = value", function() z[1] = 2 end)
      assert.same({{0, 1}, {0, 0}}, z:totable())
      assert.equal(1, z:detach():sum():item())
      other[1][2] = 3
      assert.equal(3, other:sum():item())
    end)

    it("of a value that another operation needs is told in backward", function()
      local w = on({1, 2}):requires_grad_()
      local x = w * 1
      local y = x * x
      x[1] = 3
      support.fails("changed in place after it", function() y:sum():backward() end)
    end)

    it("may have another dtype or device, and gives the value its gradient there", function()
      local w = fp8.tensor({1, 2}, {dtype = "bf16", requires_grad = true})
      local x = fp8.zeros(3, options)
      x[{{2, 3}}] = w
      x:mul(3):sum():backward()
      assert.equal("bf16", w.grad.dtype)
      assert.equal("cpu", w.grad.device)
      assert.same({3, 3}, w.grad:totable())
      support.fails("would be lost in a tensor of dtype i32", function() on({1, 2}, "i32")[1] = w[1] end)
    end)

    it("can be differentiated twice with a graph that is kept, and frees what it used", function()
      local w = on({1, 2, 3}):requires_grad_()
      local x = w * 2
      x[{{1, 2}}] = w[{{2, 3}}] * 3
      local loss = (x * on {1, 10, 100}):sum()
      loss:backward(nil, {retain_graph = true})
      assert.same({0, 3, 230}, w.grad:totable())
      loss:backward()
      assert.same({0, 6, 460}, w.grad:totable())
      support.fails("released", function() loss:backward() end)
    end)

    it("that fails changes nothing", function()
      local w = on({1, 2, 3}):requires_grad_()
      local x, z = w * 2, fp8.zeros(3, options)
      for _, wrong in ipairs {on {1, 2}, on {{1}, {2}, {3}, {4}}, "5", {}, io.stdout} do
        for _, target in ipairs {x, z, fp8.zeros(3, options)} do
          assert.is_false(pcall(function() target[{{}}] = wrong end))
          assert.is_false(pcall(function() target[on({1, 2, 0}, "i64")] = wrong end))
          assert.is_false(pcall(function() target[target:ge(0)] = wrong end))
        end
      end
      support.fails("does not broadcast", function() z[{{}}] = w:narrow(1, 1, 2) * 1 end)
      assert.is_false(z.requires_grad)
      assert.same({2, 4, 6}, x:totable())
      x:sum():backward()
      assert.same({2, 2, 2}, w.grad:totable())
    end)
  end)

  describe("An index", function()
    local x = fp8.arange(24, options):view(2, 3, 4)
    local function refused(message, key)
      support.fails("slices_spec.lua", function() return x[key] end)
      support.fails(message, function() return x[key] end)
      support.fails(message, function() x[key] = 0 end)
    end

    it("that is wrong is told with what there is", function()
      refused("tensor: index 5 is out of range: dimension 1 has 1 to 2, or -1 to -2 from the end", 5)
      refused("index 0 is out of range", 0)
      refused("index -3 is out of range", -3)
      refused("index must be a whole number, got 1.5", 1.5)
      refused("index 4 is out of range: dimension 2 has 1 to 3", {1, 4})
      refused("index 5 is out of range: dimension 3 has 1 to 4", {{}, {}, {1, 5}})
      refused("the range from 3 to 1 ends before it starts", {{}, {3, 1}})
      refused("a range is {first, last} or {first, last, step}, and {} everything, got 1 numbers", {{2}})
      refused("the step of a range must be a whole number from 1 on, got 0", {{1, 2, 0}})
      refused("4 indices of a tensor of shape (2, 3, 4)", {1, 2, 3, 4})
      refused("index 2 must be a number, {first, last} or {}, got string", {1, "2"})
      refused("use index_select or index_put", {1, on({1}, "i64")})
      refused("element 1 of the list is missing", {nil, 2})
      refused("with a field 'a'", {a = 1})
      refused("a mask of shape (3) does not fit the first dimensions of shape (2, 3, 4)", on({1, 1, 1}, "u8"))
      refused("must be i64 or i32, and a mask u8, got f32", on {1, 2})
      support.fails("out of range", function() return x[on({2}, "i64")]:totable() end)
      support.fails("dimension 1 has none", function() return fp8.zeros(0, options)[1] end)
      support.fails("without dimensions has no indices", function() return on(1)[1] end)
      support.fails("without dimensions has no rows", function() return on(1):rows() end)
      support.fails("a number or a tensor is needed to assign, got string", function() x[1] = "1" end)
      support.fails("no field or method 'shap'; did you mean shape?", function() return x.shap end)
      support.fails("field 'weight' can't be set", function() x.weight = 1 end)
      assert.equal(276, x:sum():item())
    end)
  end)
end)

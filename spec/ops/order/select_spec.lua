-- Elements chosen by their values.
local fp8 = require "fp8"
local support = require "spec.support"

local dtypes = {"f32", "f16", "bf16", "e4m3", "e5m2", "u8", "i32", "i64"}

--- The elements of a nested table in row-major order, each as {value, coordinates from 0}.
local function listed(nested, coordinates, list)
  list, coordinates = list or {}, coordinates or {}
  if type(nested) ~= "table" then
    table.insert(list, {nested, coordinates})
    return list
  end
  for i, part in ipairs(nested) do
    local own = {unpack(coordinates)}
    table.insert(own, i - 1)
    listed(part, own, list)
  end
  return list
end

local function places_by_hand(x)
  local places = {}
  for _, entry in ipairs(listed(x:totable())) do
    if entry[1] ~= 0 then table.insert(places, entry[2]) end
  end
  return places
end

support.each_device(function(device)
  local options = {device = device}

  --- Numbers of which about half are 0, of any dtype.
  local function sparse(shape, dtype)
    return (fp8.randint(0, 2, shape, options) * fp8.randint(1, 9, shape, options)):to(dtype or "f32")
  end

  describe("nonzero", function()
    it("gives the coordinates of all that is not 0, of every dtype and rank", function()
      for i, shape in ipairs {{7}, {3, 4}, {4, 1, 5}, {2, 3, 2, 3}, {1, 1, 2, 1, 2, 1, 3, 2}} do
        for _, dtype in ipairs(dtypes) do
          local x = sparse(shape, dtype)
          local y = x:nonzero()
          assert.equal("i64", y.dtype)
          assert.same({x:ne(0):sum():item(), #shape}, y.shape)
          assert.same(places_by_hand(x), y:totable())
        end
        local turned = sparse(shape):transpose(1, -1)
        assert.same(places_by_hand(turned), turned:nonzero():totable())
        assert.same(places_by_hand(turned), turned:argwhere():totable(), i)
      end
    end)

    it("finds one in many, and many", function()
      local x = fp8.zeros(300, 1000, options)
      x:select(1, 222):narrow(1, 778, 1):fill_(1)
      assert.same({{221, 777}}, x:nonzero():totable())
      local all = fp8.ones(300, 1000, options):nonzero()
      assert.same({300000, 2}, all.shape)
      support.equal(all:select(2, 1) * 1000 + all:select(2, 2), fp8.arange(300000, {dtype = "i64", device = device}))
      local random = fp8.rand(400000, options):lt(0.25)
      local places = random:nonzero():view(-1)
      assert.equal(random:sum():item(), places:numel())
      assert.equal(places:numel(), random:index_select(1, places):sum():item())
      assert.equal(1, places:narrow(1, 2, places:numel() - 1):gt(places:narrow(1, 1, places:numel() - 1)):all():item())
    end)

    it("begins at any byte and ends anywhere", function()
      local bytes = fp8.randint(0, 2, {20000}, options):to("u8")
      for _, range in ipairs {{2, 19999}, {16, 4097}, {33, 4096}, {8, 12288}, {20000, 1}} do
        local flags = bytes:narrow(1, range[1], range[2])
        local places = flags:nonzero():view(-1)
        assert.equal(flags:sum():item(), places:numel())
        local found = fp8.zeros({range[2]}, options)
        if places:numel() > 0 then found:index_fill_(1, places, 1) end
        support.equal(found:to("u8"), flags)
      end
    end)

    it("takes NaN for something, and both zeros for nothing", function()
      local x = fp8.tensor({{0, 0 / 0}, {-0.0, 1}}, options)
      assert.same({{0, 1}, {1, 1}}, x:nonzero():totable())
    end)

    it("gives no rows of nothing, and rows without coordinates of no dimensions", function()
      assert.same({0, 2}, fp8.ones(2, 0, options):nonzero().shape)
      assert.same({0, 3}, fp8.zeros(2, 3, 1, options):nonzero().shape)
      assert.same({1, 0}, fp8.tensor(3, options):nonzero().shape)
      assert.same({0, 0}, fp8.tensor(0, options):nonzero().shape)
    end)

    it("is counted by count_nonzero", function()
      local x = fp8.tensor({{0, 1}, {2, 0 / 0}}, options)
      assert.same({1, 2}, x:count_nonzero(1):totable())
      assert.equal(3, x:count_nonzero():item())
      local count = fp8.tensor(2, options):count_nonzero()
      assert.same({"i64", 1}, {count.dtype, count:item()})
      assert.same({0, 0}, fp8.zeros(2, 0, options):count_nonzero(2):totable())
    end)
  end)

  describe("masked_select", function()
    it("takes the elements where the mask is not 0, which broadcast", function()
      for _, shapes in ipairs {
        {{3, 4}, {3, 4}}, {{3, 4}, {4}}, {{4}, {3, 4}}, {{3, 1}, {1, 4}}, {{}, {5}}, {{5}, {}}, {{2, 1, 3}, {4, 1}},
      } do
        for _, dtype in ipairs(dtypes) do
          local x, mask = sparse(shapes[1], dtype), sparse(shapes[2], "u8")
          local wide, expected = support.flat(x + mask * 0), {}
          local wide_mask = support.flat(mask + sparse(shapes[1], "u8") * 0)
          for i, value in ipairs(wide_mask) do
            if value ~= 0 then table.insert(expected, wide[i]) end
          end
          local y = x:masked_select(mask)
          assert.same({dtype, {#expected}}, {y.dtype, y.shape})
          assert.same(expected, y:totable())
        end
      end
      local turned = sparse({4, 3}):t()
      support.equal(turned:masked_select(turned:gt(4)), turned:contiguous():masked_select(turned:contiguous():gt(4)))
    end)

    it("takes masks of any dtype, and nothing of nothing", function()
      local x = fp8.tensor({5, 6, 7}, options)
      for _, dtype in ipairs(dtypes) do
        assert.same({5, 7}, x:masked_select(fp8.tensor({1, 0, 2}, options):to(dtype)):totable())
      end
      assert.same({0}, x:masked_select(fp8.zeros(3, options)).shape)
      assert.same({0}, fp8.zeros(0, 3, options):masked_select(fp8.ones(3, options)).shape)
      assert.same({3}, fp8.tensor(3, options):masked_select(fp8.tensor(1, options)):totable())
      support.fails("masked_select: shapes (3) and (2) do not broadcast", function()
        x:masked_select(fp8.ones(2, options))
      end)
      support.fails("masked_select: argument 2: tensor expected, got nil", function() x:masked_select() end)
    end)

    it("passes gradients on to what was chosen", function()
      for _, dtype in ipairs {"f32", "bf16"} do
        local x = fp8.arange(6, options):view(2, 3):to(dtype):requires_grad_()
        local y = x:masked_select(fp8.tensor({{1, 0, 1}, {0, 0, 1}}, options))
        y:backward(fp8.tensor({2, 4, 8}, options):to(dtype))
        assert.same({dtype, {{2, 0, 4}, {0, 0, 8}}}, {x.grad.dtype, x.grad:totable()})
      end
      local row = fp8.ones(3, options):requires_grad_()
      row:masked_select(fp8.tensor({{1, 0, 1}, {1, 1, 0}}, options)):backward(fp8.tensor({1, 2, 4, 8}, options))
      assert.same({5, 8, 2}, row.grad:totable())
      local column = fp8.ones(2, 1, options):requires_grad_()
      column:masked_select(fp8.tensor({1, 0, 1}, options)):backward(fp8.tensor({1, 2, 4, 8}, options))
      assert.same({{3}, {12}}, column.grad:totable())
      local none = fp8.ones(2, options):requires_grad_()
      none:masked_select(fp8.zeros(2, options)):sum():backward()
      assert.same({0, 0}, none.grad:totable())
      local number = fp8.tensor(2, options):requires_grad_()
      number:masked_select(fp8.ones(2, options)):sum():backward()
      assert.equal(2, number.grad:item())
    end)
  end)

  if device ~= "cpu" then
    it("can't be captured in a graph, which says so", function()
      local x = fp8.ones(3, options)
      for _, f in ipairs {
        x.nonzero, x.unique, function() return x:masked_select(x) end, function() return x:histogram(2) end,
        function() return x:multinomial(1) end,
      } do
        support.fails("can't be captured in a graph", function() fp8.cuda.graph(function() return f(x) end) end)
      end
      assert.equal(3, x:nonzero():size(1))
    end)
  end
end)

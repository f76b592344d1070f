-- Sorting, the largest and smallest, and medians.
local core = require "fp8.core"
local fp8 = require "fp8"
local support = require "spec.support"

local dtypes = {"f32", "f16", "bf16", "e4m3", "e5m2", "u8", "i32", "i64"}

--- The positions of a list's values in order, from 0: NaN largest, equal ones by position.
local function order_of(row, descending)
  local positions = {}
  for i = 1, #row do positions[i] = i - 1 end
  table.sort(positions, function(a, b)
    local x, y = row[a + 1], row[b + 1]
    local x_nan, y_nan = x ~= x, y ~= y
    if x_nan and y_nan or x == y then return a < b end
    if x_nan or y_nan then return (x_nan and descending or y_nan and not descending) and true or false end
    if descending then return x > y end
    return x < y
  end)
  return positions
end

--- Asserts that values and positions are the first k in order of the rows of x along a dimension.
local function check_sorted(x, values, positions, dimension, descending, k)
  assert.equal(x.dtype, values.dtype)
  assert.equal("i64", positions.dtype)
  local n = x:size(dimension)
  k = k or n
  local rows = support.flat(x:transpose(dimension, -1):cpu())
  local found = support.flat(positions:transpose(dimension, -1):cpu())
  for r = 0, #rows / n - 1 do
    local row = {}
    for i = 1, n do row[i] = rows[r * n + i] end
    local expected = order_of(row, descending)
    for i = 1, k do
      if expected[i] ~= found[r * k + i] then
        error(("row %d, element %d: expected %d, got %d"):format(r + 1, i, expected[i], found[r * k + i]), 2)
      end
    end
  end
  support.same_bytes(values, x:gather(dimension, positions))
end

--- Values with many ties, zeros of both signs and, of floats, NaN of both signs and infinities.
local function messy(shape, dtype, device)
  local x = fp8.randint(-20, 20, shape):to("f32") / 4
  x = x * fp8.where(fp8.rand(shape):lt(0.5), -1, 1)
  if dtype ~= "u8" and dtype ~= "i32" and dtype ~= "i64" and x:numel() > 40 then
    local chance = fp8.rand(shape)
    x = fp8.where(chance:lt(0.02), 0 / 0, fp8.where(chance:lt(0.04), -(fp8.zeros(shape) / 0), x))
    x = fp8.where(chance:gt(0.98), math.huge, fp8.where(chance:gt(0.96), -math.huge, x))
  end
  return x:to(dtype):to(device)
end

support.each_device(function(device)
  local on = {device = device}
  -- What a warp, thread blocks of all sizes and the whole device sort; on the CPU insertion, digits and merged shares.
  local lengths = {1, 2, 31, 48, 49, 128, 129, 500, 513, 2048, 2049, 8192, 8193}

  describe("sort", function()
    for _, dtype in ipairs(dtypes) do
      it("orders " .. dtype .. " of any length, NaN last, equal ones by position", function()
        for i, length in ipairs(lengths) do
          local x = messy({2, length}, dtype, device)
          local descending = i % 2 == 0
          local values, positions = x:sort(-1, descending)
          check_sorted(x, values, positions, 2, descending)
        end
        local x = messy({3, 90, 5}, dtype, device)
        for dimension = 1, 3 do
          local values, positions = x:sort(dimension, dimension == 2, true)
          check_sorted(x, values, positions, dimension, dimension == 2)
          support.equal(x:argsort(dimension, dimension == 2), positions)
        end
      end)
    end

    it("orders rows that all threads share, and many rows", function()
      for _, shape in ipairs {{70000}, {3, 66000}, {40, 9000}, {700, 60}} do
        local x = messy(shape, "f32", device)
        local values, positions = x:sort(-1, #shape == 1)
        check_sorted(x, values, positions, #shape, #shape == 1)
      end
      local x = fp8.randn({200000}, on)
      local values = x:sort()
      assert.equal(0, values:narrow(1, 1, 199999):gt(values:narrow(1, 2, 199999)):to("i64"):sum():item())
      support.close(values:sum(), x:sum(), 1e-3)
    end)

    it("tells integers apart over all of their range", function()
      local list = {
        9223372036854775807LL, -9223372036854775807LL - 1, 0, -1, 1, 4294967296LL, 4294967295LL, -4294967296LL,
        9007199254740993LL, 9007199254740992LL,
      }
      local x = fp8.tensor(list, {dtype = "i64", device = device})
      assert.same({1, 7, 3, 2, 4, 6, 5, 9, 8, 0}, x:argsort():totable())
      assert.same({0, 8, 9, 5, 6, 4, 2, 3, 7, 1}, x:argsort(1, true):totable())
      local many = fp8.cat({x, x, x, x, x, x}, 1)
      local places = many:argsort():totable()
      for i = 2, #places do assert.is_true(places[i] % 10 ~= places[i - 1] % 10 or places[i] > places[i - 1]) end
      local i32 = fp8.tensor({2147483647, -2147483648, 0, -1, 1}, {dtype = "i32", device = device})
      assert.same({-2147483648, -1, 0, 1, 2147483647}, i32:sort():totable())
    end)

    it("keeps every element's bits", function()
      local x = fp8.tensor({0, -0.0, 1, -0.0, 0}, on)
      local values, positions = x:sort()
      assert.same({0, 1, 3, 4, 2}, positions:totable())
      support.same_bytes(values, fp8.tensor {0, -0.0, -0.0, 0, 1})
    end)

    it("takes tensors without elements or dimensions", function()
      for _, shape in ipairs {{0}, {0, 3}, {3, 0}, {2, 0, 3}} do
        local values, positions = fp8.zeros(shape, on):sort()
        assert.same({shape, shape}, {values.shape, positions.shape})
      end
      local values, positions = fp8.full({}, 4, on):sort()
      assert.same({{}, {}, 4, 0}, {values.shape, positions.shape, values:item(), positions:item()})
    end)

    it("gives on every device the bits that it gives on the CPU", function()
      if device == "cpu" then return end
      for _, dtype in ipairs(dtypes) do
        for _, shape in ipairs {{9, 300}, {4, 5000}, {2, 20000}, {40, 9000}} do
          local x = messy(shape, dtype, "cpu")
          local values, positions = x:sort(2, true)
          local same, places = x:to(device):sort(2, true)
          support.same_bytes(same, values)
          support.same_bytes(places, positions)
          local most, where = x:topk(60, 2)
          local found, here = x:to(device):topk(60, 2)
          support.same_bytes(found, most)
          support.same_bytes(here, where)
        end
      end
    end)

    it("is captured in graphs", function()
      if device == "cpu" then return end
      for _, length in ipairs {300, 9000, 40000} do
        local x = fp8.randn(4, length, on)
        local graph = fp8.cuda.graph(function() return x:argsort(-1), (x:topk(9)), x:cumsum(2), x:cumprod(1) end)
        x:copy_(fp8.randn(4, length, on))
        local order, most, sums, products = graph()
        support.same_bytes(order, x:argsort(-1))
        support.same_bytes(most, (x:topk(9)))
        support.same_bytes(sums, x:cumsum(2))
        support.same_bytes(products, x:cumprod(1))
      end
    end)
  end)

  describe("topk", function()
    for _, dtype in ipairs(dtypes) do
      it("gives the largest and the smallest of " .. dtype .. ", of equal ones the first", function()
        for i, case in ipairs {
          {3, 40, 5}, {2, 600, 1}, {3, 5000, 40}, {1, 20000, 1000}, {2, 3000, 1200}, {2, 70, 70},
        } do
          local x = messy({case[1], case[2]}, dtype, device)
          local values, positions = x:topk(case[3], 2, i % 2 == 0)
          check_sorted(x, values, positions, 2, i % 2 == 0, case[3])
          local down, places = x:t():contiguous():t():topk(case[3], -1, i % 2 == 1, false)
          check_sorted(x, down, places, 2, i % 2 == 1, case[3])
        end
      end)
    end

    it("takes rows in order, in the wrong order and of one value", function()
      for _, x in ipairs {
        fp8.arange(30000, on), fp8.arange(30000, 0, -1, on), fp8.full({30000}, 3, on),
        fp8.arange(30000, on):remainder(7), fp8.randn({30000}, on), fp8.randn({30000}, on):to("bf16"),
      } do
        x = x:view(1, -1)
        for _, k in ipairs {1, 100, 200, 1000} do
          local values, positions = x:topk(k)
          check_sorted(x, values, positions, 2, true, k)
        end
      end
    end)

    it("refuses what it can't give", function()
      local x = fp8.zeros(3, 4, on)
      support.fails("topk: k is 5, of a dimension of 4", function() x:topk(5) end)
      support.fails("topk: k must be a whole number from 0 on, got -1", function() x:topk(-1) end)
      support.fails("topk: largest must be true or false, got number", function() x:topk(1, 1, 1) end)
      support.fails("topk: dimension 3 of a tensor of 2 dimensions", function() x:topk(1, 3) end)
      support.fails("topk: argument 1: tensor expected, got nil", function() fp8.topk() end)
      support.fails("sort: stable must be", function() x:sort(1, false, "yes") end)
      support.fails("kthvalue: k must be a whole number from 1 on, got 0", function() x:kthvalue(0) end)
      support.fails("median: dimension 2 has no elements", function() fp8.zeros(3, 0, on):median(2) end)
      support.fails("asked for", function() core.sort(x, 1, false, 2 ^ 40) end)
      assert.same({3, 0}, x:topk(0).shape)
    end)
  end)

  describe("median", function()
    it("is NaN, with the first one's position, where there is one", function()
      local x = fp8.tensor({{1, 0 / 0, 2, 0 / 0}, {4, 1, 3, 2}}, on)
      local values, positions = x:median(2)
      support.equal(values, fp8.tensor {0 / 0, 2})
      assert.same({1, 3}, positions:totable())
      assert.is_true(x:median():isnan():item() == 1)
      assert.is_true(fp8.zeros(0, on):median():isnan():item() == 1)
      support.fails("median: no elements", function() fp8.zeros(0, {dtype = "i32", device = device}):median() end)
    end)

    it("shares its gradient among equal elements", function()
      local x = fp8.tensor({2, 1, 2, 3}, {device = device, requires_grad = true})
      x:median():backward()
      assert.same({0.5, 0, 0.5, 0}, x.grad:totable())
    end)
  end)
end)

-- Elementwise operations: values, broadcasting, promotion, places.
local core = require "fp8.core"
local fp8 = require "fp8"
local reference = require "spec.support.reference.elementwise"
local support = require "spec.support"

local unary, binary = reference.unary, reference.binary

--- A tensor of a random shape out of `sizes` with some sizes 1, leading ones dropped and strides shuffled.
local function random_operand(random, sizes, dtype, device)
  local shape = {}
  for d = random(#sizes), #sizes do table.insert(shape, random() < 0.3 and 1 or sizes[d]) end
  local order, inverse, permuted = support.permutation(random, #shape), {}, {}
  for d, source in ipairs(order) do
    permuted[d] = shape[source]
    inverse[source] = d
  end
  local x = fp8.randn(permuted, {device = device}) * 3
  if dtype == "u8" then x = x:abs() end
  return x:to(dtype):permute(inverse)
end

--- What one rounding to the dtype may lose, relative to the value.
local precision = {f32 = 2e-6, f16 = 2 ^ -11, bf16 = 2 ^ -8, e4m3 = 2 ^ -4, e5m2 = 2 ^ -3}
local smallest_step = {f32 = 1e-30, f16 = 2 ^ -25, bf16 = 1e-30, e4m3 = 2 ^ -10, e5m2 = 2 ^ -17}

local function check(expected, actual, dtype, what)
  for i = 1, #expected do
    local e, a = expected[i], actual[i]
    if dtype == "f16" and math.abs(e) >= 65520 then e = e > 0 and math.huge or -math.huge end
    if dtype == "e4m3" then e = math.max(-448, math.min(448, e)) end
    if dtype == "e5m2" then e = math.max(-57344, math.min(57344, e)) end
    if dtype == "f16" and math.abs(e) >= 65520 then e = e * math.huge end
    local limit = precision[dtype] and math.abs(e) * precision[dtype] + smallest_step[dtype] or 0
    local same = a == e or (a ~= a and e ~= e) or math.abs(a - e) <= limit
    if not same then error(("%s, element %d: expected %.9g, got %.9g"):format(what, i, e, a)) end
  end
end

support.each_device(function(device)
  describe("unary operations", function()
    for name, compute in support.sorted_pairs(unary) do
      it(name .. " agrees with its definition for every float dtype and any strides", function()
        local random = support.random(#name)
        fp8.manual_seed(#name)
        for _, dtype in ipairs {"f32", "f16", "bf16"} do
          for _ = 1, 4 do
            local x = random_operand(random, {3, 5, 7}, dtype, device)
            if name == "gelu" then x = x:clamp(-4, 4) end
            local y = x[name](x)
            assert.equal(dtype, y.dtype)
            assert.same(x.shape, y.shape)
            local expected = support.flat(x)
            for i, value in ipairs(expected) do expected[i] = compute(value) end
            check(expected, support.flat(y), dtype, name)
          end
        end
      end)
    end

    it("keep or widen integers", function()
      local x = fp8.tensor({-4, 0, 9}, {dtype = "i32", device = device})
      assert.same({4, 0, -9}, x:neg():totable())
      assert.equal("i32", x:abs().dtype)
      assert.equal("f32", x:sqrt().dtype)
      assert.same({0, 0, 9}, x:relu():totable())
    end)
  end)

  describe("binary operations", function()
    for name, combine in support.sorted_pairs(binary) do
      it(name .. " broadcasts and promotes, for any shapes, strides and dtypes", function()
        local random = support.random(#name + 100)
        fp8.manual_seed(#name)
        local names = {"f32", "f16", "bf16", "e4m3", "e5m2", "u8", "i32", "i64"}
        for _ = 1, 60 do
          local first, second = names[random(#names)], names[random(#names)]
          local a = random_operand(random, {2, 3, 4, 5}, first, device)
          local b = random_operand(random, {2, 3, 4, 5}, second, device)
          local y = a[name](a, b)
          local dtype = reference.promoted(first, second)
          if name == "div" and not dtype:match "^[fbe]" then dtype = "f32" end
          local shape = reference.broadcast(a.shape, b.shape)
          assert.same(shape, y.shape)
          local left = reference.expand(support.flat(a), a.shape, shape)
          local right, expected = reference.expand(support.flat(b), b.shape, shape), {}
          for i = 1, #left do expected[i] = combine(left[i], right[i]) end
          if reference.comparisons[name] then dtype = "u8" end
          assert.equal(dtype, y.dtype)
          if dtype == "u8" then
            for i = 1, #expected do expected[i] = expected[i] % 256 end
          end
          check(expected, support.flat(y), dtype, ("%s of %s and %s"):format(name, first, second))
        end
      end)
    end

    it("take numbers on either side", function()
      local x = fp8.tensor({1, 2, 4}, {device = device})
      assert.same({2, 3, 5}, (x + 1):totable())
      assert.same({0, -1, -3}, (1 - x):totable())
      assert.same({8, 4, 2}, (8 / x):totable())
      assert.same({1, 4, 16}, (x ^ 2):totable())
      assert.same({-1, -2, -4}, (-x):totable())
      assert.same({2, 4, 16}, fp8.tensor({1, 2, 4}, {device = device}).pow(2, x):totable())
    end)

    it("of integers wrap around", function()
      local function check_wrapped(dtype, a, b, sum, difference, product)
        local x = fp8.tensor({a}, {dtype = dtype, device = device})
        for _, other in ipairs {b, fp8.tensor({b}, {dtype = dtype, device = device})} do
          assert.same({sum, difference, product}, {(x + other):item(), (x - other):item(), (x * other):item()})
          assert.equal(sum, x:clone():add_(other):item())
          assert.equal(difference, x:clone():sub_(other):item())
          assert.equal(product, x:clone():mul_(other):item())
        end
      end
      check_wrapped("u8", 200, 100, 44, 100, 32)
      check_wrapped("u8", 3, 7, 10, 252, 21)
      check_wrapped("i32", 2 ^ 31 - 3, 5, -2 ^ 31 + 2, 2 ^ 31 - 8, 2 ^ 31 - 15)
      check_wrapped("i32", -2 ^ 31 + 1, 2, -2 ^ 31 + 3, 2 ^ 31 - 1, 2)
      check_wrapped("i32", 65537, 65536, 131073, 1, 65536)
      local u8 = fp8.tensor({0, 1, 255}, {dtype = "u8", device = device})
      assert.same({0, 255, 1}, (-u8):totable())
      assert.same({255, 255, 255}, u8:maximum(300):totable())
      assert.same({0, 0, 0}, u8:minimum(-1):totable())
      assert.same({7, 7, 255}, u8:clamp(7, 1000):totable())
      assert.same({255, 1, 255}, u8:masked_fill(u8:eq(0), 256):totable())
    end)

    it("keep an integer dtype with whole numbers and become f32 with fractions", function()
      local x = fp8.tensor({1, 2}, {dtype = "i64", device = device})
      assert.equal("i64", (x + 1).dtype)
      assert.equal("f32", (x * 0.5).dtype)
      assert.equal("f32", (x / 2).dtype)
      local large = fp8.tensor({2 ^ 53 - 1}, {dtype = "i64", device = device})
      assert.equal(2 ^ 53 - 3, (large - 2):item())
      assert.same({1}, large:gt(large - 1):totable())
    end)

    it("propagate NaN in maximum and minimum", function()
      local x = fp8.tensor({1, 0 / 0}, {device = device})
      local y = fp8.tensor({0 / 0, 1}, {device = device})
      for _, name in ipairs {"maximum", "minimum"} do
        for _, value in ipairs(x[name](x, y):totable()) do assert.is_true(value ~= value) end
      end
    end)

    it("work in place", function()
      local x = fp8.tensor({{1, 2}, {3, 4}}, {device = device})
      x:add_(1):mul_(fp8.tensor({2, 3}, {device = device})):sub_(1):div_(2)
      assert.same({{1.5, 4}, {3.5, 7}}, x:totable())
      support.fails("does not broadcast", function() x:add_(fp8.zeros(3, 2, 2, {device = device})) end)
      local whole = fp8.tensor({1, 2}, {dtype = "i32", device = device})
      support.fails("i32", function() whole:add_(0.5) end)
      assert.same({1, 2}, whole:totable())
    end)

    it("handle empty tensors", function()
      local x = fp8.zeros(0, 3, {device = device})
      assert.same({0, 3}, (x + fp8.ones(3, {device = device})).shape)
      assert.same({0, 3}, x:exp().shape)
    end)

    it("handle sizes past every vector width and thread boundary", function()
      for _, n in ipairs {1, 7, 63, 1025, 40001} do
        local x = fp8.arange(n, {device = device})
        local y = (x * 2 + 1):to("cpu"):data()
        for i = 0, n - 1 do
          if y[i] ~= 2 * i + 1 then error(("size %d, element %d: got %g"):format(n, i, y[i])) end
        end
        local shifted = fp8.arange(n + 1, {device = device}):narrow(1, 2, n)
        local z = (shifted + x):to("cpu"):data()
        for i = 0, n - 1 do
          if z[i] ~= 2 * i + 1 then error(("shifted, size %d, element %d: got %g"):format(n, i, z[i])) end
        end
      end
    end)
  end)

  describe("scale_", function()
    it("multiplies by one number of the device's, and leaves everything as it is where that is 1", function()
      for _, dtype in ipairs {"f32", "f16", "bf16"} do
        for _, n in ipairs {0, 1, 7, 8, 1000, 5003} do
          for first = 1, 2 do -- the second is on no vector
            local whole = fp8.randn(n + 2, {device = device}):to(dtype)
            local x = whole:narrow(1, first, n)
            local expected, outside = x * 3, whole:select(1, -1):clone()
            core.scale_(x, fp8.full({}, 3, {device = device}))
            support.same_bytes(x:contiguous(), expected)
            support.same_bytes(whole:select(1, -1), outside)
            core.scale_(x, fp8.ones(1, {device = device}))
            support.same_bytes(x:contiguous(), expected)
          end
        end
        local x = fp8.ones(3, {device = device}):to(dtype)
        support.equal(core.scale_(x, fp8.full({}, 0 / 0, {device = device})), fp8.tensor {0 / 0, 0 / 0, 0 / 0})
      end
      local x, one = fp8.ones(3, 4, {device = device}), fp8.ones(1, {device = device})
      support.fails("one f32 element", core.scale_, x, one:half())
      support.fails("one f32 element", core.scale_, x, fp8.ones(2, {device = device}))
      support.fails("contiguous", core.scale_, x:t(), one)
      support.fails("share no memory", core.scale_, x, x[1]:narrow(1, 1, 1))
      support.fails("must be f32, f16 or bf16, got i64", core.scale_, x:to "i64", one)
    end)
  end)

  describe("where, masked_fill and clamp", function()
    it("choose by a condition, broadcasting all three", function()
      local condition = fp8.tensor({{1}, {0}}, {dtype = "u8", device = device})
      local a, b = fp8.tensor({1, 2, 3}, {device = device}), fp8.tensor({-1, -2, -3}, {device = device})
      assert.same({{1, 2, 3}, {-1, -2, -3}}, fp8.where(condition, a, b):totable())
      assert.same({{1, 2, 3}, {0, 0, 0}}, fp8.where(condition, a, 0):totable())
      assert.same({{9, 9, 9}, {1, 2, 3}}, a:expand(2, 3):masked_fill(condition, 9):totable())
    end)

    it("clamp to one or two limits and keep NaN", function()
      local x = fp8.tensor({-5, 0, 5, 0 / 0}, {device = device})
      support.equal(x:clamp(-1, 1), fp8.tensor {-1, 0, 1, 0 / 0})
      support.equal(x:clamp(-1), fp8.tensor {-1, 0, 5, 0 / 0})
      support.equal(x:clamp(nil, 1), fp8.tensor {-5, 0, 1, 0 / 0})
      support.fails("above", function() x:clamp(2, 1) end)
    end)

    it("clamp integers to whole numbers, or to others as f32", function()
      local x = fp8.tensor({-3, 0, 1, 2}, {dtype = "i32", device = device})
      support.equal(x:clamp(-math.huge, 1), fp8.tensor({-3, 0, 1, 1}, {dtype = "i32"}))
      support.equal(x:clamp(0.5, 1.5), fp8.tensor {0.5, 0.5, 1, 1.5})
    end)
  end)
end)

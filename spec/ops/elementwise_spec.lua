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
      assert.same({-1, 0, 1}, x:sign():totable())
      for _, name in ipairs {"floor", "ceil", "round", "trunc"} do
        local large = fp8.tensor({9007199254740993LL, -3}, {dtype = "i64", device = device})
        assert.equal("i64", large[name](large).dtype)
        assert.is_true(large[name](large)[1]:item() == 9007199254740993LL)
      end
      for _, name in ipairs {"cos", "log2", "erf", "expm1", "softplus", "elu", "leaky_relu", "reciprocal"} do
        assert.equal("f32", x[name](x).dtype)
      end
      assert.equal("i32", x:square().dtype)
    end)

    it("round halves to even, also of 16 bits", function()
      for _, dtype in ipairs {"f32", "f16", "bf16"} do
        local x = fp8.tensor({-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.25}, {dtype = dtype, device = device})
        assert.same({-2, -2, 0, 0, 2, 2, 3}, x:round():totable())
      end
    end)

    it("keep what infinity, NaN and small numbers are", function()
      local x = fp8.tensor({-math.huge, 0, 1e-20, math.huge, 0 / 0}, {device = device})
      local function check_values(y, ...)
        local expected = {...}
        for i, value in ipairs(y:totable()) do
          local e = expected[i]
          local same = value == e or value ~= value and e ~= e or math.abs(value - e) <= 1e-6 * math.abs(e)
          if not same then error(("element %d: expected %.9g, got %.9g"):format(i, e, value), 2) end
        end
      end
      check_values(x:floor(), -math.huge, 0, 0, math.huge, 0 / 0)
      check_values(x:round(), -math.huge, 0, 0, math.huge, 0 / 0)
      check_values(x:sign(), -1, 0, 1, 1, 0)
      check_values(x:log1p(), 0 / 0, 0, 1e-20, math.huge, 0 / 0)
      check_values(x:expm1(), -1, 0, 1e-20, math.huge, 0 / 0)
      check_values(x:erf(), -1, 0, 1.12837917e-20, 1, 0 / 0)
      check_values(x:softplus(), 0, math.log(2), math.log(2), math.huge, 0 / 0)
      check_values(x:softplus(-1), -math.huge, -math.log(2), -math.log(2), 0, 0 / 0)
      check_values(x:elu(0.5), -0.5, 0, 1e-20, math.huge, 0 / 0)
      check_values(x:leaky_relu(0.5), -math.huge, 0, 1e-20, math.huge, 0 / 0)
      check_values(x:cos(), 0 / 0, 1, 1, 0 / 0, 0 / 0)
      check_values(x:log2(), 0 / 0, -math.huge, math.log(fp8.tensor {1e-20}:item()) / math.log(2), math.huge, 0 / 0)
      check_values(fp8.tensor({0.25, 8, 2 ^ 100}, {device = device}):log2(), -2, 3, 100)
    end)

    if device == "cpu" then
      it("keep the relative accuracy of GELU far below 0", function()
        local x = {-12, -8.25, -5, -1, -1e-20, 0, 1e-20, 1, 13.25, 14, 1e38, math.huge, -100, -1e38}
        -- By PyTorch in float64.
        local expected = {
          -2.1317785345e-32, -6.5337742096e-16, -1.4332578594e-6, -0.15865525393, -0.5e-20, 0, 0.5e-20, 0.84134474607,
          13.25, 14, 1e38, math.huge, 0, 0,
        }
        for i, y in ipairs(fp8.tensor(x):gelu():totable()) do
          local e = expected[i]
          assert.is_true(y == e or math.abs(y - e) <= 1e-6 * math.abs(e), ("gelu(%g) = %g"):format(x[i], y))
        end
        local limits = fp8.tensor({-math.huge, 0 / 0}):gelu():totable()
        assert.is_true(limits[1] ~= limits[1] and limits[2] ~= limits[2])
      end)
    end

    it("take sines of numbers of any size", function()
      for _, scale in ipairs {1e-20, 1, 1e3, 1e6, 1e9, 1e30} do
        local x = fp8.randn(1000, {device = device}) * scale
        local values = x:totable()
        for name, f in pairs {sin = math.sin, cos = math.cos, tan = math.tan} do
          for i, y in ipairs(x[name](x):totable()) do
            local expected = f(values[i])
            assert.is_true(math.abs(y - expected) <= 4e-7 * math.abs(expected), name .. " " .. values[i])
          end
        end
      end
      support.equal(fp8.tensor({math.huge, 0}, {device = device}):sin(), fp8.tensor {0 / 0, 0})
    end)

    it("take a parameter", function()
      local x = fp8.tensor({-2, -0.5, 3}, {device = device})
      support.close(x:leaky_relu(0.25), fp8.tensor {-0.5, -0.125, 3})
      support.close(x:leaky_relu(), fp8.tensor {-0.02, -0.005, 3})
      support.close(x:elu(2), fp8.tensor {2 * (math.exp(-2) - 1), 2 * (math.exp(-0.5) - 1), 3})
      support.close(x:softplus(3), fp8.tensor {math.log(1 + math.exp(-6)) / 3, math.log(1 + math.exp(-1.5)) / 3,
        math.log(1 + math.exp(9)) / 3})
      assert.equal(2 ^ -6, fp8.tensor({-1}, {dtype = "f16", device = device}):leaky_relu(-2 ^ -6):item())
      support.fails("elu: alpha must be a number, got table", function() x:elu {} end)
    end)

    it("check elements of every dtype", function()
      for _, dtype in ipairs {"f32", "f16", "bf16", "e5m2"} do
        local x = fp8.tensor({0, 1, math.huge, -math.huge, 0 / 0}, {device = device})
          :to{dtype = dtype, saturate = false}
        assert.equal("u8", x:isnan().dtype)
        assert.same({0, 0, 0, 0, 1}, x:isnan():totable())
        assert.same({0, 0, 1, 1, 0}, x:isinf():totable())
        assert.same({1, 1, 0, 0, 0}, x:isfinite():totable())
        assert.same({1, 0, 0, 0, 0}, x:logical_not():totable())
      end
      for _, dtype in ipairs {"u8", "i32", "i64"} do
        local x = fp8.tensor({0, 1, 100}, {dtype = dtype, device = device})
        assert.same({0, 0, 0}, x:isnan():totable())
        assert.same({1, 1, 1}, x:isfinite():totable())
        assert.same({1, 0, 0}, x:logical_not():totable())
        assert.same({0, 1, 1}, x:logical_and(0.5):totable())
        assert.same({0, 1, 1}, x:logical_and(1e-60):totable())
        assert.same({1, 1, 1}, x:logical_or(-1e-20):totable())
      end
      local least = fp8.tensor({-0x7fffffffffffffffLL - 1, 0x7fffffffffffffffLL}, {dtype = "i64", device = device})
      assert.same({1, 1}, least:isfinite():totable())
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
          if reference.fractions[name] and not dtype:match "^[fbe]" then dtype = "f32" end
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

    it("take powers with the limits of C's library", function()
      local numbers = {0, -0.0, 1, -1, 2, -2, 3, -3, 0.5, -0.5, 2.5, math.huge, -math.huge, 0 / 0, 1e-40, -1e-40, 3e38,
        5, 16777217, 0.99999, 1.00001, -1e30}
      local bases, exponents = {}, {}
      for _, a in ipairs(numbers) do
        for _, b in ipairs(numbers) do
          table.insert(bases, a)
          table.insert(exponents, b)
        end
      end
      local a, b = fp8.tensor(bases, {device = device}), fp8.tensor(exponents, {device = device})
      local found, x, y = a:pow(b):totable(), a:totable(), b:totable()
      for i, actual in ipairs(found) do
        local expected = fp8.tensor({x[i] ^ y[i]}):item()
        local text = ("%g ^ %g: expected %g, got %g"):format(x[i], y[i], expected, actual)
        if expected ~= expected then
          assert.is_true(actual ~= actual, text)
        elseif expected == 0 or math.abs(expected) < 1.2e-38 then
          assert.is_true(math.abs(actual) < 1.2e-38, text)
        else
          assert.is_true(actual == expected or math.abs(actual - expected) <= 1e-6 * math.abs(expected), text)
        end
      end
      support.equal(a:pow(3), a * a * a)
    end)

    it("give remainders of the divisor's sign", function()
      local random = support.random(7)
      for _, dtype in ipairs {"f32", "f16", "bf16", "i32", "i64"} do
        local a, b = {}, {}
        for i = 1, 200 do a[i], b[i] = random(4001) - 2001, random(21) - 11 end
        if dtype:find "f" then
          for i = 1, 200 do a[i], b[i] = math.fmod(a[i], 128) / 4, b[i] / 8 end
        end
        local x = fp8.tensor(a, {dtype = dtype, device = device})
        local y = x:remainder(fp8.tensor(b, {dtype = dtype, device = device}))
        assert.equal(dtype, y.dtype)
        local found = y:totable()
        for i = 1, 200 do
          local expected = b[i] == 0 and (dtype:find "f" and 0 / 0 or 0) or a[i] - b[i] * math.floor(a[i] / b[i])
          if found[i] ~= expected and expected == expected then
            error(("%s: %g by %g: expected %g, got %g"):format(dtype, a[i], b[i], expected, found[i]))
          end
        end
      end
      local least = fp8.tensor({-0x7fffffffffffffffLL - 1}, {dtype = "i64", device = device})
      assert.equal(0, least:remainder(-1):item())
      assert.equal(-8, least:remainder(-10):item())
      local x = fp8.tensor({5, -5}, {device = device})
      support.equal(x:remainder(math.huge), fp8.tensor {5, math.huge})
      assert.same({2, 1}, x:remainder(3):totable())
      assert.same({1, -3}, fp8.remainder(7, fp8.tensor({3, -5}, {device = device})):totable())
    end)

    it("take no square that overflows or vanishes", function()
      local x = fp8.tensor({3e30, 3e-30, 0}, {device = device})
      support.close(x:hypot(x * (4 / 3)), fp8.tensor {5e30, 5e-30, 0})
      local y = fp8.tensor({4e30, 4e-30, 0}, {device = device, requires_grad = true})
      fp8.atan2(x, y):backward(fp8.tensor({1e30, 1e-30, 0}, {device = device}))
      local slopes = y.grad:narrow(1, 1, 2)
      support.close(slopes, fp8.tensor {-3 / 25, -3 / 25})
    end)

    it("give what no NaN counts for beside a NaN of any bits", function()
      local x = fp8.empty(4, {dtype = "bf16"})
      for i, bits in ipairs {0x7FC0, 0x7F81, 0xFF81, 0xFFFF} do x:data()[i - 1] = bits end -- two are signalling NaNs
      for _, dtype in ipairs {"bf16", "f32"} do
        local y = x:to(device):to(dtype)
        local on = {dtype = dtype, device = device}
        assert.same({1, 1, 1, 1}, y:pow(0):totable())
        assert.same({1, 1, 1, 1}, fp8.ones(4, on):pow(y):totable())
        assert.same({math.huge, math.huge, math.huge, math.huge}, y:hypot(fp8.full({1}, -math.huge, on)):totable())
        assert.equal(4, y:pow(2):isnan():sum():item())
        assert.equal(4, y:hypot(fp8.ones({1}, on)):isnan():sum():item())
      end
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

    it("compare any number of elements with a number, NaN as nothing but different", function()
      local relations = {
        eq = function(a, b) return a == b end,
        ne = function(a, b) return a ~= b end,
        lt = function(a, b) return a < b end,
        le = function(a, b) return a <= b end,
        gt = function(a, b) return a > b end,
        ge = function(a, b) return a >= b end,
      }
      for _, dtype in ipairs {"f32", "f16", "bf16"} do
        for _, n in ipairs {15, 16, 33, 8192} do
          local values = {}
          for i = 1, n + 1 do values[i] = i % 7 == 0 and 0 / 0 or i % 5 - 2 end
          local x = fp8.tensor(values, {dtype = dtype, device = device})
          for name, relation in pairs(relations) do
            for first = 1, 2 do -- the second is on no vector
              local found = x:narrow(1, first, n)[name](x:narrow(1, first, n), 1):totable()
              for i = 1, n do assert.equal(relation(values[first + i - 1], 1) and 1 or 0, found[i]) end
            end
          end
        end
      end
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

    it("give in place what they give elsewhere, for any strides", function()
      local arguments = {
        add = 1.5, sub = 1.5, mul = 1.5, div = 1.5, pow = 2, remainder = 0.7, atan2 = 0.5, hypot = 2, leaky_relu = 0.25,
        elu = 0.5, clamp = 0.8,
      }
      local count = 0
      for name in support.sorted_pairs(require "fp8.ops.elementwise.in_place") do
        local plain = name:match "^(.*)_$"
        local whole = fp8.rand(4, 6, {device = device}) + 0.5
        local x, other = whole:t():narrow(1, 2, 3), fp8.rand(4, {device = device}) + 0.5
        local list = {
          {arguments[plain]}, {other}, {other:gt(1), 3}, {other, 0.3}, {other, x:clone()},
        }
        for _, given in ipairs(list) do
          local ok, expected = pcall(x[plain], x:clone(), unpack(given))
          if ok then
            local untouched = whole[1][1]:item()
            assert.is_true(rawequal(x, x[name](x, unpack(given))))
            support.equal(x, expected)
            assert.equal(untouched, whole[1][1]:item())
            count = count + 1
          end
        end
      end
      assert.is_true(count >= 85, count)
      support.equal(fp8.tensor({0, 5}, {dtype = "i32", device = device}):logical_not_(),
        fp8.tensor({1, 0}, {dtype = "i32"}))
      local row = fp8.tensor({1, 2, 3, 4}, {device = device})
      row:narrow(1, 2, 3):pow_(row:narrow(1, 1, 3))
      assert.same({1, 2, 9, 64}, row:totable())
    end)

    it("in place keep the dtype, and refuse what is none of it or would lose a gradient", function()
      local half = fp8.tensor({1, 4}, {dtype = "f16", device = device})
      assert.same({"f16", {1, 2}}, {half:sqrt_().dtype, half:totable()})
      local x = fp8.tensor({-1, 4}, {dtype = "i32", device = device})
      assert.same({1, 4}, x:abs_():totable())
      assert.same({1, 16}, x:square_():totable())
      support.fails("exp_: the result is f32, which a tensor of dtype i32 can't take", function() x:exp_() end)
      support.fails("pow_: the result is f32, which a tensor of dtype i32 can't take", function() x:pow_(2) end)
      support.fails("clamp_: the result is f32, which a tensor of dtype i32 can't take", function() x:clamp_(0.5) end)
      assert.same({1, 16}, x:totable())
      local leaf = fp8.ones(2, {device = device, requires_grad = true})
      local plain = fp8.ones(2, {device = device})
      support.fails("exp_: this tensor requires a gradient", function() leaf:exp_() end)
      support.fails("addcmul_: the argument requires a gradient", function() plain:addcmul_(plain, leaf) end)
      support.fails("does not broadcast", function() plain:lerp_(fp8.ones(3, 2, {device = device}), 0.5) end)
      assert.same({1, 1}, fp8.no_grad(leaf.relu_, leaf):totable())
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

    it("compose with one rounding", function()
      local on = {device = device}
      local x, a, b = fp8.randn(50, on), fp8.randn(50, on), fp8.rand(50, on)
      for _, dtype in ipairs {"f16", "bf16"} do
        local function narrow(t) return t:to(dtype), t:to(dtype):float() end
        local x16, x32 = narrow(x)
        local a16, a32 = narrow(a)
        local b16, b32 = narrow(b + 0.5)
        support.equal(x16:addcmul(a16, b16, {value = 0.5}), (x32 + a32 * 0.5 * b32):to(dtype))
        support.equal(x16:addcdiv(a16, b16), (x32 + a32 / b32):to(dtype))
        support.equal(x16:lerp(a16, 0.25), (x32 + (a32 - x32) * 0.25):to(dtype))
        assert.equal("f32", x16:lerp(a32, 0.25).dtype)
        -- What is narrow is widened before, not between.
        support.equal(x:addcmul(a16, b16), x + a32 * b32)
        support.equal(x:addcdiv(a16, b16, {value = 0.1}), x + a32 * 0.1 / b32)
      end
      support.equal(x:lerp(a, 1), a)
      support.equal(x:lerp(a, 0), x)
      support.close(x:lerp(a, b), x * (1 - b) + a * b)
      local whole = fp8.tensor({4, 8}, {dtype = "i64", device = device})
      assert.same({"i64", 20}, {whole:addcmul(whole, whole).dtype, whole:addcmul(whole, whole)[1]:item()})
      assert.same({5, 10}, whole:lerp(whole * 2, 0.25):totable())
    end)

    it("clamp to one or two limits and keep NaN", function()
      local x = fp8.tensor({-5, 0, 5, 0 / 0}, {device = device})
      support.equal(x:clamp(-1, 1), fp8.tensor {-1, 0, 1, 0 / 0})
      support.equal(x:clamp(-1), fp8.tensor {-1, 0, 5, 0 / 0})
      support.equal(x:clamp(nil, 1), fp8.tensor {-5, 0, 1, 0 / 0})
      support.equal(x:clamp(2, 1), fp8.tensor {1, 1, 1, 0 / 0})
    end)

    it("clamp integers to whole numbers, or to others as f32", function()
      local x = fp8.tensor({-3, 0, 1, 2}, {dtype = "i32", device = device})
      support.equal(x:clamp(-math.huge, 1), fp8.tensor({-3, 0, 1, 1}, {dtype = "i32"}))
      support.equal(x:clamp(0.5, 1.5), fp8.tensor {0.5, 0.5, 1, 1.5})
    end)
  end)
end)

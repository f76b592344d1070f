-- Products of matrices, batches and vectors.
local core = require "fp8.core"
local fp8 = require "fp8"
local reference = require "spec.support.reference"
local support = require "spec.support"

--- Product of two 2-D tensors in double.
local function expected_product(a, b)
  local m, k, n = a:size(1), a:size(2), b:size(2)
  return fp8.tensor(reference.matmul(support.flat(a), support.flat(b), m, k, n)):view(m, n)
end

local function relative(actual, expected) return support.error(actual:to("f32"), expected) end

--- A matrix of whole numbers of at most 7 times 2^exponent, `wanted` of which in a row are not 0.
local function sparse(random, rows, columns, wanted, exponent)
  local list = {}
  for i = 1, rows * columns do list[i] = 0 end
  for row = 0, rows - 1 do
    for _ = 1, wanted do list[row * columns + random(columns)] = (random(15) - 8) * 2 ^ exponent end
  end
  return list
end

-- Exponents of operands: with subnormal numbers on the left, on the right, on both sides, only in the result, only in
-- partial sums, and nowhere.
local exponents = {
  f32 = {{-149, 0}, {0, -149}, {-149, 120}, {-75, -70}, {-70, -79}, {-63, -63}, {-60, -60}},
  bf16 = {{-133, 0}, {0, -133}, {-133, 120}, {-130, -3}, {-132, -17}, {-70, -63}, {-66, -60}, {-64, -64}, {-62, -61},
    {-70, -70}, {-60, -52}, {-60, -51}, {0, 0}},
  f16 = {{-24, 0}, {0, -24}, {-24, 10}, {-12, -12}, {-14, -13}, {-5, -15}, {-3, -3}},
}

-- Exponents of the smallest numbers.
local smallest = {f32 = -149, bf16 = -133, f16 = -24}

support.each_device(function(device)
  describe("matmul", function()
    it("agrees with sums in double for any layout and dtype", function()
      local random = support.random(5)
      for trial = 1, 60 do
        local m, k, n = random(40), random(40), random(40)
        local dtype = ({"f32", "f16", "bf16"})[trial % 3 + 1]
        local function operand(rows, columns)
          local choice = random(4)
          if choice == 1 then return fp8.randn(rows, columns, {device = device, dtype = dtype}) end
          if choice == 2 then return fp8.randn(columns, rows, {device = device, dtype = dtype}):t() end
          local options = {device = device, dtype = dtype}
          if choice == 3 then return fp8.randn(rows, columns + 3, options):narrow(2, 2, columns) end
          return fp8.randn(rows, columns, 2, options):select(3, 2)
        end
        local a, b = operand(m, k), operand(k, n)
        local expected = expected_product(a, b)
        local y = a:matmul(b)
        assert.equal(dtype, y.dtype)
        local found = relative(y, expected)
        assert.is_true(found <= support.tolerance[dtype], ("%s (%d, %d, %d): %g"):format(dtype, m, k, n, found))
      end
    end)

    it("multiplies batches, broadcasting their dimensions", function()
      for _, dtype in ipairs {"f32", "bf16"} do
        local a = fp8.randn(2, 1, 3, 4, {device = device, dtype = dtype})
        local b = fp8.randn(5, 4, 6, {device = device, dtype = dtype})
        local y = a:matmul(b)
        assert.same({2, 5, 3, 6}, y.shape)
        for i = 1, 2 do
          for j = 1, 5 do
            assert.is_true(relative(y[i][j], expected_product(a[i][1], b[j])) <= support.tolerance[dtype])
          end
        end
        local swapped = b:transpose(2, 3):contiguous():transpose(2, 3)
        support.equal(a:matmul(swapped), y)
        local heads = fp8.randn(2, 3, 5, 4, {device = device, dtype = dtype}):transpose(2, 3)
        local scores = heads:matmul(heads:transpose(3, 4))
        assert.same({2, 5, 3, 3}, scores.shape)
        local expected = expected_product(heads[2][4], heads[2][4]:t())
        assert.is_true(relative(scores[2][4], expected) <= support.tolerance[dtype])
      end
    end)

    it("takes vectors as rows and columns", function()
      local v, m = fp8.tensor({1, 2, 3}, {device = device}), fp8.arange(12, {device = device}):view(3, 4)
      assert.equal(14, v:matmul(v):item())
      assert.same({}, v:matmul(v).shape)
      assert.same({32, 38, 44, 50}, v:matmul(m):totable())
      assert.same({8, 26, 44, 62}, (m:t():matmul(v)):totable() and m:view(4, 3):matmul(v):totable())
      assert.same({2, 4}, v:matmul(fp8.ones(2, 3, 4, {device = device})).shape)
      assert.same({2, 4}, fp8.ones(2, 4, 3, {device = device}):matmul(v).shape)
    end)

    it("gives zeros for an empty contraction and empty results for empty operands", function()
      local options = {device = device}
      assert.same({{0, 0}, {0, 0}}, fp8.zeros(2, 0, options):matmul(fp8.zeros(0, 2, options)):totable())
      assert.same({0, 2}, fp8.zeros(0, 3, options):matmul(fp8.zeros(3, 2, options)).shape)
      assert.same({0, 2, 2}, fp8.zeros(0, 2, 3, options):matmul(fp8.zeros(3, 2, options)).shape)
    end)

    it("keeps subnormal numbers, of the operands, of their products, of sums and of the result", function()
      -- Exact in every dtype that has them: powers of two, as many of them.
      local magnitudes = {f32 = 2 ^ -149, bf16 = 2 ^ -133, f16 = 2 ^ -24}
      for dtype, least in pairs(magnitudes) do
        local options, root = {dtype = dtype, device = device}, 2 ^ math.floor(math.log(least) / math.log(4))
        local function check(m, k, n, first, second)
          local expected, a, b = k * first * second, fp8.full({m, k}, first, options), fp8.full({k, n}, second, options)
          for _, y in ipairs {a:matmul(b), fp8.full({k, m}, first, options):t():matmul(b)} do
            assert.equal(expected, y:max():item())
            assert.equal(expected, y:min():item())
          end
          local batch = a:unsqueeze(1):expand(3, -1, -1):matmul(b:unsqueeze(1):expand(3, -1, -1):contiguous())
          assert.same({expected, expected}, {batch:max():item(), batch:min():item()})
        end
        for _, shape in ipairs {{1, 1, 1}, {4, 64, 4}, {64, 4, 64}, {1, 256, 128}, {96, 32, 96}} do
          local m, k, n = unpack(shape)
          check(m, k, n, 4 * least, 1)
          check(m, k, n, 1, least)
          check(m, k, n, 2 * least, 1024)
          check(m, k, n, 2 * root, least / root)
        end
        -- What is left of two normal numbers; beside a row that is far above it.
        local a, unit = fp8.zeros(2, 32, options), least * 2 ^ 7 / root
        a[1][1], a[1][2], a[2][3] = unit * (1 + 2 ^ -7), -unit, 1
        local y = a:matmul(fp8.full({32, 3}, root, options))
        assert.same({least, least, least}, y[1]:totable())
        assert.same({root, root, root}, y[2]:totable())
      end
    end)

    it("is exact to float32, with no shorter products inside", function()
      local a, b = fp8.randn(256, 512, {device = device}), fp8.randn(512, 128, {device = device})
      local expected = expected_product(a:narrow(1, 1, 8), b:narrow(2, 1, 8))
      assert.is_true(relative(a:matmul(b):narrow(1, 1, 8):narrow(2, 1, 8), expected) < 1e-6)
    end)

    it("takes nothing through the zeros of a triangle", function()
      local random = support.random(12)
      for trial = 1, 40 do
        local m, k, n, lower = random(45), random(45), random(70), trial % 2 == 0
        local dtype = ({"f32", "f16", "bf16"})[trial % 3 + 1]
        local options = {device = device, dtype = dtype}
        local weights = {}
        for i = 1, m do
          for j = 1, k do
            local inside = lower and j <= i + k - m or not lower and j >= i + k - m
            table.insert(weights, inside and random() or 0)
          end
        end
        local a = fp8.tensor(weights, {device = device}):view(1, m, k):to(dtype):expand(2, m, k)
        if trial % 5 == 0 then a = a:transpose(1, 2):contiguous():transpose(1, 2) end
        local b = fp8.randn(2, k, n, options)
        if trial % 4 == 0 then b = b:transpose(1, 2):contiguous():transpose(1, 2) end
        local position, column = random(k), random(n)
        b[2][position]:narrow(1, column, 1):fill_(trial % 3 == 0 and math.huge or 0 / 0)
        local y = core.triangle_matmul(a, b, lower):to("f32"):totable()
        local rows, values = a[1]:totable(), b:totable()
        for batch = 1, 2 do
          for i = 1, m do
            local first, last = lower and 1 or math.max(1, i + k - m), lower and math.min(k, i + k - m) or k
            for j = 2 - column % 2, n, 2 do -- among them the one that is not finite
              local sum, magnitude, seen = 0, 0, false
              for l = first, last do
                local value = values[batch][l][j]
                if value ~= value or value == math.huge then
                  seen = true
                else
                  sum, magnitude = sum + rows[i][l] * value, magnitude + math.abs(rows[i][l] * value)
                end
              end
              local found = y[batch][i][j]
              assert.equal(seen, found ~= found or found == math.huge)
              if not seen then assert.is_true(math.abs(found - sum) <= magnitude * support.tolerance[dtype] + 1e-6) end
            end
          end
        end
      end
      support.fails("the same leading dimensions are needed", core.triangle_matmul, fp8.ones(2, 3, 4), fp8.ones(4, 3))
    end)

    describe("with sums that float32 holds exactly", function()
      after_each(function() fp8.set_deterministic(false) end)

      -- Of a (m, k) with few elements that are not 0, b (k, n) and a bias.
      local function check(dtype, out_dtype, case, m, k, n, has_bias)
        local random = support.random(m + k)
        local left, right = sparse(random, m, k, 4, case[1]), sparse(random, k, n, n, case[2])
        local bias = has_bias and sparse(random, 1, n, n, math.max(case[1] + case[2], smallest[out_dtype]))
        local sums = reference.matmul(left, right, m, k, n)
        for i = 1, #sums do
          sums[i] = reference.round[out_dtype](sums[i] + (bias and bias[(i - 1) % n + 1] or 0))
        end
        local a = fp8.tensor(left, {dtype = dtype}):view(m, k):to(device)
        local b = fp8.tensor(right, {dtype = dtype}):view(k, n):to(device)
        local addend = bias and fp8.tensor(bias, {dtype = out_dtype, device = device})
        local apart = fp8.cat({a, fp8.full({m, 3}, 2 ^ -24, {dtype = dtype, device = device})}, 2):narrow(2, 1, k)
        for _, operands in ipairs {{a, b}, {a:t():contiguous():t(), b}, {a, b:t():contiguous():t()}, {apart, b}} do
          local y = core.matmul(operands[1], operands[2], addend, out_dtype)
          assert.equal(out_dtype, y.dtype)
          local found = support.flat(y)
          for i = 1, #sums do
            if found[i] ~= sums[i] then
              error(("%s 2^%d by 2^%d: expected %.9g, got %.9g"):format(dtype, case[1], case[2], sums[i], found[i]))
            end
          end
        end
      end

      for _, dtype in ipairs {"f32", "bf16", "f16"} do
        it("rounds them once, subnormal or not, for " .. dtype, function()
          for _, case in ipairs(exponents[dtype]) do
            for _, out_dtype in ipairs {dtype, "f32"} do
              check(dtype, out_dtype, case, 7, 40, 9)
              check(dtype, out_dtype, case, 7, 40, 9, true)
              check(dtype, out_dtype, case, 1, 130, 70)
              check(dtype, out_dtype, case, 33, 64, 1)
              check(dtype, out_dtype, case, 7, 4096, 9, true) -- few results of many products: those may be split
            end
          end
        end)

        it("does so in large products of " .. dtype, function()
          for _, deterministic in ipairs {false, true} do
            fp8.set_deterministic(deterministic)
            for i = 1, #exponents[dtype], 3 do check(dtype, dtype, exponents[dtype][i], 260, 257, 256) end
          end
        end)
      end
    end)

    it("keeps subnormal numbers in every matrix of a batch", function()
      local options = {dtype = "bf16", device = device}
      for _, place in ipairs {1, 5} do
        local a, b = fp8.ones(5, 3, 4, options), fp8.ones(5, 4, 2, options)
        a[place]:fill_(2 ^ -131)
        local expected = fp8.full({5, 3, 2}, 4, options)
        expected[place]:fill_(2 ^ -129)
        support.equal(a:matmul(b), expected)
        support.equal(a:matmul(b[1]), expected)
      end
    end)

    it("adds to a sum in float32, for any layout and dtype", function()
      local random = support.random(6)
      for trial = 1, 30 do
        local m, k, n = random(70), random(70) - 1, random(70)
        local options = {device = device, dtype = ({"f32", "f16", "bf16"})[trial % 3 + 1]}
        local a = trial % 2 == 0 and fp8.randn(m, k, options) or fp8.randn(k, m, options):t()
        local b = trial % 4 < 2 and fp8.randn(k, n, options) or fp8.randn(n, k, options):t()
        local sum = fp8.randn(m, n, {device = device})
        local expected = sum + expected_product(a, b):to(device)
        local before = core.version(sum)
        assert.equal(sum, core.matmul_add_(sum, a, b))
        support.close(sum, expected, 1e-5)
        assert.is_true(k == 0 or core.version(sum) > before)
      end
      local x = fp8.ones(3, 3, {device = device})
      local function refuses(text, ...) support.fails(text, core.matmul_add_, ...) end
      refuses("must be contiguous f32 of shape (3, 3), got f32 (2, 3)", fp8.ones(2, 3, {device = device}), x, x)
      refuses("must be contiguous f32 of shape (3, 3), got f16 (3, 3)", x:half(), x:half(), x:half())
      refuses("must be contiguous f32", fp8.ones(3, 6, {device = device}):narrow(2, 1, 3), x, x)
      refuses("must share no memory", x, x, fp8.ones(3, 3, {device = device}))
      refuses("dtypes f32 and f16 differ", fp8.ones(3, 3, {device = device}), x, x:half())
      refuses("shapes (3, 3) and (2, 3)", fp8.ones(3, 3, {device = device}), x, x:narrow(1, 1, 2))
    end)

    it("names both shapes where they don't fit", function()
      support.fails("matmul: shapes (3, 4) and (5, 6): 4 and 5 differ",
        function() fp8.zeros(3, 4, {device = device}):matmul(fp8.zeros(5, 6, {device = device})) end)
      support.fails("dtypes f32 and bf16 differ", function()
        fp8.zeros(3, 4, {device = device}):matmul(fp8.zeros(4, 6, {device = device, dtype = "bf16"}))
      end)
    end)
  end)
end)

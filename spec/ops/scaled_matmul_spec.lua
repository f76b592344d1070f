-- Products of float8 codes with scales, against sums in double.
local core = require "fp8.core"
local fp8 = require "fp8"
local reference = require "spec.support.reference"
local positional = require "spec.support.positional"
local support = require "spec.support"

local fails = support.fails

support.each_device(function(device)
  local on = {device = device}

  local function codes(rows, columns, format) return fp8.randn(rows, columns, on):to(format) end

  --- The product in double, and the tensor that it should be.
  local function expected_product(a, scale_a, b, scale_b, bias)
    local m, k, n = a:size(1), a:size(2), b:size(1)
    local product = reference.matmul(support.flat(a), support.flat(b), m, k, n, false, true)
    local left, right, offset = scale_a:totable(), scale_b:totable(), bias and bias:totable()
    for i = 1, m do
      for j = 1, n do
        local at = (i - 1) * n + j
        product[at] = product[at] * (left[i] or left[1]) * (right[j] or right[1]) + (offset and offset[j] or 0)
      end
    end
    return fp8.tensor(product):view(m, n)
  end

  describe("scaled_matmul", function()
    for _, dtype in ipairs {"f32", "f16", "bf16"} do
      it("agrees with sums in double, for scales of rows and of everything, " .. dtype, function()
        for _, shape in ipairs {{1, 1, 1}, {3, 16, 5}, {16, 32, 48}, {33, 70, 17}, {64, 256, 16}} do
          local m, k, n = unpack(shape)
          for _, formats in ipairs {{"e4m3", "e4m3"}, {"e4m3", "e5m2"}, {"e5m2", "e4m3"}} do
            local a, b = codes(m, k, formats[1]), codes(n, k, formats[2])
            for _, lengths in ipairs {{1, 1}, {m, n}, {m, 1}, {1, n}} do
              local scale_a, scale_b = fp8.rand(lengths[1], on) + 0.5, fp8.rand(lengths[2], on) + 0.5
              local bias = fp8.randn(n, on):to(dtype)
              local y = positional.scaled_matmul(a, scale_a, b, scale_b, bias, dtype)
              assert.equal(dtype, y.dtype)
              support.close(y, expected_product(a, scale_a, b, scale_b, bias))
              support.close(positional.scaled_matmul(a, scale_a, b, scale_b, nil, dtype),
                expected_product(a, scale_a, b, scale_b))
            end
          end
        end
      end)
    end

    --- The number that scales element j of row i of codes (rows, columns).
    local function scale_at(list, shape, rows, i, j)
      if #shape == 1 then return list[i] or list[1] end
      local row = shape[1] == rows and i or math.ceil(i / 128)
      return list[row][math.ceil(j / 128)]
    end

    --- The product in double where scales are for 128 terms, for 128 rows of them, or for anything else.
    local function scaled_by_runs(a, scale_a, b, scale_b)
      local m, n = a:size(1), b:size(1)
      local function values(operand, scale)
        local rows, columns = operand:size(1), operand:size(2)
        local flat, list = support.flat(operand), scale:totable()
        for i = 1, rows do
          for j = 1, columns do
            local at = (i - 1) * columns + j
            flat[at] = flat[at] * scale_at(list, scale.shape, rows, i, j)
          end
        end
        return flat
      end
      local sums = reference.matmul(values(a, scale_a), values(b, scale_b), m, a:size(2), n, false, true)
      return fp8.tensor(sums):view(m, n)
    end

    for _, dtype in ipairs {"f32", "f16", "bf16"} do
      it("agrees with sums in double, for scales of 128 terms, " .. dtype, function()
        local function scales(kind, rows, columns)
          local runs = math.ceil(columns / 128)
          local shape = ({
            one = {1}, rows = {rows}, runs = {rows, runs}, squares = {math.ceil(rows / 128), runs},
          })[kind]
          return fp8.rand(shape, on) + 0.5
        end
        for _, shape in ipairs {
          {16, 144, 48}, {144, 400, 160}, {33, 300, 17}, {5, 128, 200}, {1, 129, 1}, {272, 96, 32},
        } do
          local m, k, n = unpack(shape)
          local a, b = codes(m, k, "e4m3"), codes(n, k, m % 2 == 0 and "e4m3" or "e5m2")
          for _, kinds in ipairs {
            {"runs", "squares"}, {"squares", "runs"}, {"runs", "runs"}, {"squares", "squares"}, {"one", "runs"},
            {"runs", "rows"}, {"squares", "one"},
          } do
            local scale_a, scale_b = scales(kinds[1], m, k), scales(kinds[2], n, k)
            local bias = fp8.randn(n, on):to(dtype)
            local expected = scaled_by_runs(a, scale_a, b, scale_b)
            support.close(positional.scaled_matmul(a, scale_a, b, scale_b, nil, dtype), expected)
            local turned_a = scale_a:dim() == 2 and scale_a:t():contiguous():t() or scale_a
            local turned_b = scale_b:dim() == 2 and scale_b:t():contiguous():t() or scale_b
            support.close(positional.scaled_matmul(a, turned_a, b, turned_b, bias, dtype, true),
              expected + bias:to("f32"):to("cpu"))
          end
        end
      end)
    end

    it("takes sides that are no multiples of 16, and codes that begin anywhere", function()
      for _, shape in ipairs {{77, 1000, 333}, {333, 77, 1000}, {16, 48, 40}, {3, 50, 32}, {64, 64, 8}} do
        local m, k, n = unpack(shape)
        local a = codes(m + 1, k, "e4m3"):view((m + 1) * k):narrow(1, 2, m * k):view(m, k)
        local b = codes(n + 1, k, "e5m2"):view((n + 1) * k):narrow(1, 4, n * k):view(n, k)
        for _, lengths in ipairs {{1, 1}, {m, n}} do
          local scale_a, scale_b = fp8.rand(lengths[1], on) + 0.5, fp8.rand(lengths[2], on) + 0.5
          for _, dtype in ipairs {"f16", "bf16"} do
            local bias = fp8.randn(n + 1, on):to(dtype):narrow(1, 2, n)
            support.close(positional.scaled_matmul(a, scale_a, b, scale_b, bias, dtype, true),
              expected_product(a, scale_a, b, scale_b, bias))
          end
        end
      end
    end)

    it("adds to an f32 sum, as exact as a 16-bit result at least", function()
      for _, shape in ipairs {{48, 160, 64}, {33, 70, 17}, {16, 32, 24}, {3, 0, 5}} do
        local m, k, n = unpack(shape)
        for _, formats in ipairs {{"e4m3", "e4m3"}, {"e5m2", "e4m3"}, {"e5m2", "e5m2"}} do
          local a, b = codes(m, k, formats[1]), codes(n, k, formats[2])
          for _, lengths in ipairs {{1, 1}, {m, n}} do
            local scale_a, scale_b = fp8.rand(lengths[1], on) + 0.5, fp8.rand(lengths[2], on) + 0.5
            local sum = fp8.randn(m, n, on)
            local before, version = sum:clone(), core.version(sum)
            assert.equal(sum, core.scaled_matmul_add_(sum, a, scale_a, b, scale_b))
            assert.is_true(k == 0 or core.version(sum) ~= version)
            support.close(sum:bfloat16(), before:to "cpu" + expected_product(a, scale_a, b, scale_b))
          end
        end
      end
    end)

    it("refuses sums that do not fit", function()
      local a, b, one = codes(3, 16, "e4m3"), codes(4, 16, "e5m2"), fp8.ones(1, on)
      local add = core.scaled_matmul_add_
      fails("the sum must be contiguous f32 of shape (3, 4), got f32 (4, 3)", add, fp8.zeros(4, 3, on), a, one, b, one)
      fails("the sum must be contiguous f32 of shape (3, 4), got bf16 (3, 4)", add,
        fp8.zeros(3, 4, on):bfloat16(), a, one, b, one)
      fails("the sum must be contiguous f32 of shape (3, 4), got f32 (3, 4)", add, fp8.zeros(4, 3, on):t(), a, one, b,
        one)
      local sum = fp8.zeros(1, 4, on)
      local part = sum:narrow(2, 1, 1):view(1)
      fails("the sum must share no memory with the factors", add, sum, codes(1, 16, "e4m3"), part, b, one)
    end)

    it("adds thousands of terms up for few rows", function()
      local a, b = codes(16, 8192, "e4m3"), codes(48, 8192, "e5m2")
      local scale_a, scale_b = fp8.rand(16, on) + 0.5, fp8.rand(48, on) + 0.5
      for _, dtype in ipairs {"f16", "bf16"} do
        local bias = fp8.randn(48, on):to(dtype)
        support.close(positional.scaled_matmul(a, scale_a, b, scale_b, bias, dtype),
          expected_product(a, scale_a, b, scale_b, bias))
      end
    end)

    it("takes codes of any strides", function()
      local a, b, one = codes(32, 16, "e4m3"), codes(32, 48, "e4m3"), fp8.ones(1, on)
      support.equal(positional.scaled_matmul(a:t(), one, b:t(), one, nil, "f32"),
        positional.scaled_matmul(a:t():contiguous(), one, b:t():contiguous(), one, nil, "f32"))
    end)

    it("gives the bias where there is nothing to add", function()
      local one = fp8.ones(1, on)
      local bias = fp8.tensor({1, 2}, on)
      local y = positional.scaled_matmul(codes(3, 0, "e4m3"), one, codes(2, 0, "e4m3"), one, bias, "f32")
      assert.same({{1, 2}, {1, 2}, {1, 2}}, y:totable())
    end)

    it("refuses what does not fit", function()
      local a, b, one = codes(3, 16, "e4m3"), codes(4, 16, "e5m2"), fp8.ones(1, on)
      local function product(...) return positional.scaled_matmul(...) end
      fails("the second sizes differ", product, a, one, codes(4, 8, "e4m3"), one, nil, "f32")
      fails("the result's dtype must be f32, f16 or bf16, got i64", product, a, one, b, one, nil, "i64")
      fails("the bias has dtype f16, the result f32", product, a, one, b, one, fp8.ones(4, on):half(), "f32")
      assert.has_error(function() product(a, fp8.ones(2, on), b, one, nil, "f32") end)
      fails("must be f32 with 1 or 3 elements, or of shape (3, 1) or (1, 1), got f32 of shape (3, 2)", product, a,
        fp8.ones(3, 2, on), b, one, nil, "f32")
      assert.has_error(function() product(a:to "f32", one, b, one, nil, "f32") end)
      assert.has_error(function() product(a, one, b, one, fp8.ones(3, on), "f32") end)
    end)
  end)
end)

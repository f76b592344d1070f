-- Numbers that meet tensors of narrow dtypes: a double is rounded once, which is what is compared, chosen, stored and
-- computed with.
local fp8 = require "fp8"
local elementwise = require "spec.support.reference.elementwise"
local reference = require "spec.support.reference"
local support = require "spec.support"

-- By dtype: bits of fraction, the exponents of its normal range that are looked at, and its largest value.
local formats = {
  f32 = {23, -20, 20, 3.4028234663852886e38}, f16 = {10, -14, 15, 65504}, bf16 = {7, -30, 30, 3.3895313892515355e38},
  e4m3 = {3, -6, 7, 448}, e5m2 = {2, -14, 14, 57344},
}

-- Numbers at ties between two values of a dtype and just beside them, closer than float32 tells; and small ones. What
-- `reference` makes of a double is exact but for one rounding.
local function beside_ties(dtype)
  local bits, first, last = unpack(formats[dtype])
  local random, list = support.random(bits), {0.1, -0.3, 1 / 3}
  for _ = 1, 60 do
    local exponent = first + random(last - first)
    local tie = (1 + (random(2 ^ bits) - 0.5) / 2 ^ bits) * 2 ^ exponent
    local off = 2 ^ (exponent - bits - 1 - (29 - math.min(bits, 20)))
    for _, number in ipairs {tie, tie + off, tie - off, -tie - off, -tie + off} do table.insert(list, number) end
  end
  local smallest = 2 ^ (({f16 = -14, bf16 = -126, e4m3 = -6, e5m2 = -14, f32 = -126})[dtype] - bits)
  for _, steps in ipairs {0.5, 0.5 + 2 ^ -40, 1.5, 1.5 - 2 ^ -40, 2.5, 2.5 + 2 ^ -40} do
    table.insert(list, steps * smallest)
    table.insert(list, -steps * smallest)
  end
  return list
end

local function rounded(list, dtype)
  local result = {}
  for i, number in ipairs(list) do result[i] = reference.round[dtype](number) end
  return result
end

support.each_device(function(device)
  for _, dtype in ipairs {"f32", "f16", "bf16", "e4m3", "e5m2"} do
    local on = {dtype = dtype, device = device}

    describe("Numbers beside " .. dtype, function()
      local numbers = beside_ties(dtype)
      local expected = rounded(numbers, dtype)

      it("are rounded once where they are stored", function()
        assert.same(expected, fp8.tensor(numbers, on):totable())
        local one, mask = fp8.zeros(1, on), fp8.ones(1, {dtype = "u8", device = device})
        local step = fp8.zeros(2, on)
        for i, number in ipairs(numbers) do
          local function check(x) assert.equal(expected[i], x:view(-1)[1]:item()) end
          check(fp8.full({1}, number, on))
          check(one:fill_(number))
          step[1] = number
          check(step)
          check(one:masked_fill(mask, number))
          check(fp8.where(mask, number, one))
          check(fp8.arange(number, number + 1, 2, on))
        end
      end)

      it("are rounded once where they are chosen", function()
        local low, high = fp8.full({1}, -formats[dtype][4], on), fp8.full({1}, formats[dtype][4], on)
        for i, number in ipairs(numbers) do
          assert.equal(expected[i], low:maximum(number):item())
          assert.equal(expected[i], high:minimum(number):item())
          assert.equal(expected[i], low:clamp(number, nil):item())
          assert.equal(expected[i], high:clamp(nil, number):item())
        end
      end)

      it("are rounded before they are compared", function()
        local x = fp8.tensor(numbers, on)
        for i = 1, #numbers, 7 do
          for name in pairs(elementwise.comparisons) do
            local compare, right, left = elementwise.binary[name], {}, {}
            for k, value in ipairs(expected) do
              right[k], left[k] = compare(value, expected[i]), compare(expected[i], value)
            end
            assert.same(right, x[name](x, numbers[i]):totable())
            assert.same(left, x[name](numbers[i], x):totable())
          end
        end
      end)

      it("beyond it are above all of its values", function()
        local largest = formats[dtype][4]
        local x, beyond = fp8.tensor({largest, -largest}, on), largest * 1.5
        assert.same({1, 1}, x:lt(beyond):totable())
        assert.same({0, 0}, x:eq(beyond):totable())
        assert.same({1, 1}, x:gt(-beyond):totable())
        assert.same({0, 0}, x:le(-beyond):totable())
        local ends = dtype == "e4m3" or dtype == "e5m2"
        assert.equal(ends and largest or math.huge, fp8.full({1}, beyond * 1e300, on):item())
        assert.equal(ends and -largest or -math.huge, x:masked_fill(x:lt(0), -beyond * 1e300)[2]:item())
        assert.same({largest, -largest}, x:clamp(-beyond, beyond):totable())
        local nan = fp8.full({1}, 0 / 0, on):item()
        assert.is_true(nan ~= nan)
        assert.same({0, 0}, x:le(0 / 0):totable())
      end)

      it("take the dtype first in arithmetic, too", function()
        local values = {1, 1.5, -0.75, 3}
        local x = fp8.tensor(values, on)
        for i = 1, #numbers, 5 do
          local number = fp8.full({1}, numbers[i], on):item() -- as checked above
          for _, name in ipairs {"add", "sub", "mul", "div"} do
            local compute, right = elementwise.binary[name], {}
            for k, value in ipairs(values) do
              right[k] = reference.round[dtype](reference.f32(compute(value, number)))
            end
            assert.same(right, x[name](x, numbers[i]):totable())
            assert.same(right, x:clone()[name .. "_"](x:clone(), numbers[i]):totable())
          end
        end
      end)
    end)
  end

  it("Sums and means on " .. device .. " are rounded once to 16 bits", function()
    local function check(dtype, list, sum, mean)
      local x = fp8.tensor(list, {dtype = dtype, device = device})
      assert.equal(sum, x:sum():item())
      assert.equal(mean, x:mean():item())
      local columns = x:view(-1, 1):expand(-1, 9)
      assert.equal(sum, columns:sum(1)[5]:item())
      assert.equal(mean, columns:mean(1)[5]:item())
    end
    check("f16", {2048, 1, 2 ^ -24, 0}, 2050, reference.round.f16((2049 + 2 ^ -24) / 4))
    check("f16", {2, 2 + 2 ^ -9, 2 ^ -24, 0}, reference.round.f16(4 + 2 ^ -9 + 2 ^ -24), 1 + 2 ^ -10)
    check("bf16", {256, 1, 2 ^ -40, 0}, 258, reference.round.bf16((257 + 2 ^ -40) / 4))
    check("bf16", {-256, -1, -2 ^ -20, 0}, -258, reference.round.bf16(-(257 + 2 ^ -20) / 4))
  end)
end)

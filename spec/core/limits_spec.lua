-- Integers at the limits of their ranges, with numbers and tensors at and beyond the limits, against int64_t.
--
-- Integer arithmetic wraps in the bits of its result. Casts go towards zero and saturate; NaN gives 0. A number that is
-- an integer of 64 bits takes part as that, and saturates first where it may be the result; any other makes the result
-- of arithmetic float32, as does a floating-point tensor. Comparisons with a number are exact, whatever it is. int64_t
-- and uint64_t are numbers, too.
local fp8 = require "fp8"
local elementwise = require "spec.support.reference.elementwise"
local integers = require "spec.support.integers"
local reference = require "spec.support.reference"
local support = require "spec.support"

local f32, saturated, from_number = reference.f32, integers.saturated, integers.from_number
local wrapped = integers.wrapped
local dtypes, floats = {"u8", "i32", "i64"}, {"f32", "f16", "bf16", "e4m3", "e5m2"}
local arithmetic = {"add", "sub", "mul", "remainder", "maximum", "minimum"}
local comparisons = {"eq", "ne", "lt", "le", "gt", "ge"}
local definitions = setmetatable({remainder = elementwise.remainder}, {__index = elementwise.binary})
local in_place = {add = true, sub = true, mul = true, remainder = true}

-- What every dtype's range ends with, as far as it holds them, and so do tensors that meet it.
local wide = {
  0LL, 1LL, -1LL, 2LL, 254LL, 255LL, 256LL, 2147483646LL, 2147483647LL, 2147483648LL, -2147483647LL, -2147483648LL,
  -2147483649LL, 9007199254740991LL, 9007199254740992LL, 9007199254740993LL, -9007199254740993LL,
  0x7fffffffffffffffLL, 0x7ffffffffffffffeLL, 0x7ffffffffffffc00LL, -0x7fffffffffffffffLL, -0x7fffffffffffffffLL - 1,
}
local values = {}
for _, dtype in ipairs(dtypes) do
  values[dtype] = {}
  for _, value in ipairs(wide) do
    if saturated(value, dtype) == value then table.insert(values[dtype], value) end
  end
end

local numbers = {
  0, 1, -1, 2, 255, 256, 2 ^ 31 - 1, 2 ^ 31, -2 ^ 31, -2 ^ 31 - 1, 2 ^ 53, -2 ^ 53, 2 ^ 62 - 512, 2 ^ 62, -2 ^ 62,
  2 ^ 63 - 1024, 2 ^ 63, -2 ^ 63 + 1024, -2 ^ 63, -2 ^ 63 - 2048, 2 ^ 64, 1e30, -1e30, 0.5, -0.5, 255.5, 2 ^ 31 - 0.5,
  -2 ^ 31 - 0.5, 2 ^ 52 + 0.5, math.huge, -math.huge, 0 / 0, 5LL, -1LL, 255ULL, 9007199254740993LL, -9007199254740993LL,
  0x7fffffffffffffffLL, 0x7ffffffffffffffeULL, -0x7fffffffffffffffLL, -0x7fffffffffffffffLL - 1,
}

local function is_whole(number)
  return type(number) == "cdata" or number == math.floor(number) and number >= -2 ^ 63 and number < 2 ^ 63
end

local function fractionless(number) return type(number) == "cdata" or number == math.floor(number) end

local function text_of(number) return type(number) == "cdata" and tostring(number) or ("%.17g"):format(number) end

local function as_f32(value) return f32(tonumber(value)) end

--- Asserts that a tensor holds these: int64_t in an integer dtype, numbers in a floating-point one.
local function check(expected, actual, dtype, what)
  assert.equal(dtype, actual.dtype, what)
  local is_integer = integers.range[dtype] ~= nil
  local found = is_integer and integers.list(actual) or support.flat(actual)
  assert.equal(#expected, #found, what)
  for i, value in ipairs(expected) do
    if found[i] ~= value and (is_integer or found[i] == found[i] or value == value) then
      error(("%s, element %d: expected %s, got %s"):format(what, i, tostring(value), tostring(found[i])), 2)
    end
  end
end

--- Calls f(value) for every one in a list, and returns a list of the results.
local function map(list, f)
  local result = {}
  for i, value in ipairs(list) do result[i] = f(value) end
  return result
end

-- The result of a comparison from the order of its operands: -1, 0, 1, or nil where one is NaN.
local from_order = {
  eq = function(order) return order == 0 end,
  ne = function(order) return order ~= 0 end,
  lt = function(order) return order == -1 end,
  le = function(order) return order == -1 or order == 0 end,
  gt = function(order) return order == 1 end,
  ge = function(order) return order == 1 or order == 0 end,
}

support.each_device(function(device)
  local function tensor(dtype) return integers.tensor(values[dtype], dtype, device) end

  for _, dtype in ipairs(dtypes) do
    describe("Limits of " .. dtype, function()
      for _, name in ipairs(arithmetic) do
        local compute = definitions[name]

        it("in " .. name .. " with numbers", function()
          local x = tensor(dtype)
          for _, number in ipairs(numbers) do
            local whole = is_whole(number)
            local operand = whole and from_number(number, "i64") or f32(number)
            local own = whole and values[dtype] or map(values[dtype], as_f32)
            local into = (name == "maximum" or name == "minimum") and saturated or wrapped
            local function finish(value) return whole and into(value, dtype) or f32(value) end
            local right = map(own, function(value) return finish(compute(value, operand)) end)
            local left = map(own, function(value) return finish(compute(operand, value)) end)
            -- Where one operand is NaN, the larger and the smaller are, too.
            if number ~= number then right, left = map(own, function() return number end), nil end
            check(right, x[name](x, number), whole and dtype or "f32", ("%s with %s"):format(name, text_of(number)))
            check(left or right, x[name](number, x), whole and dtype or "f32", ("%s %s"):format(text_of(number), name))
            if whole and in_place[name] then
              local y = x:clone()
              check(right, y[name .. "_"](y, number), dtype, ("%s_ with %s"):format(name, text_of(number)))
            end
          end
        end)
      end

      for _, name in ipairs(comparisons) do
        it("in " .. name .. " with numbers", function()
          local x = tensor(dtype)
          for _, number in ipairs(numbers) do
            local orders = {}
            for i, value in ipairs(values[dtype]) do orders[i] = integers.compare(value, number) or "NaN" end
            local right = map(orders, function(order) return from_order[name](order) and 1LL or 0LL end)
            local left = map(orders, function(order)
              return from_order[name](order ~= "NaN" and -order or order) and 1LL or 0LL
            end)
            check(right, x[name](x, number), "u8", ("%s with %s"):format(name, text_of(number)))
            check(left, x[name](number, x), "u8", ("%s %s"):format(text_of(number), name))
          end
        end)
      end

      for _, other in ipairs(dtypes) do
        it("with those of " .. other, function()
          local x, y = tensor(dtype):view(-1, 1), tensor(other)
          local shared = elementwise.promoted(dtype, other)
          for _, name in ipairs(arithmetic) do
            local expected = {}
            for _, a in ipairs(values[dtype]) do
              for _, b in ipairs(values[other]) do
                table.insert(expected, wrapped(definitions[name](a, b), shared))
              end
            end
            check(expected, x[name](x, y), shared, name)
          end
          for name in pairs(in_place) do
            local expected = {}
            for _, a in ipairs(values[dtype]) do
              for _, b in ipairs(values[other]) do
                table.insert(expected, wrapped(definitions[name](a, b), dtype))
              end
            end
            local z = x:expand(-1, #values[other]):contiguous()
            check(expected, z[name .. "_"](z, y), dtype, name .. "_")
          end
          for _, name in ipairs(comparisons) do
            local expected = {}
            for _, a in ipairs(values[dtype]) do
              for _, b in ipairs(values[other]) do
                local order = a < b and -1 or a > b and 1 or 0
                table.insert(expected, from_order[name](order) and 1LL or 0LL)
              end
            end
            check(expected, x[name](x, y), "u8", name)
          end
        end)
      end

      it("meet float32 tensors in float32", function()
        local list = {0, 0.5, -1, 2 ^ 31, -2 ^ 63, 2 ^ 63, math.huge}
        local x, y = tensor(dtype):view(-1, 1), fp8.tensor(list, {device = device})
        for _, names in ipairs {arithmetic, comparisons} do
          for _, name in ipairs(names) do
            local expected, compared = {}, names == comparisons
            for _, a in ipairs(values[dtype]) do
              for _, b in ipairs(list) do
                local result = definitions[name](as_f32(a), b)
                table.insert(expected, compared and from_number(result, "u8") or f32(result))
              end
            end
            check(expected, x[name](x, y), compared and "u8" or "f32", name)
          end
        end
      end)

      it("in neg, abs and relu", function()
        local x = tensor(dtype)
        local function negated(value) return wrapped(-value, dtype) end
        check(map(values[dtype], negated), x:neg(), dtype, "neg")
        check(map(values[dtype], negated), -x, dtype, "-")
        local function magnitude(value) return value < 0 and negated(value) or value end
        check(map(values[dtype], magnitude), x:abs(), dtype, "abs")
        check(map(values[dtype], function(value) return value < 0 and 0LL or value end), x:relu(), dtype, "relu")
      end)

      it("in clamp", function()
        local x = tensor(dtype)
        for _, low in ipairs(numbers) do
          for _, high in ipairs(numbers) do
            if integers.at_most(low, high) then
              local whole = fractionless(low) and fractionless(high)
              local from, to = from_number(low, "i64"), from_number(high, "i64")
              local expected = map(values[dtype], function(value)
                if whole then return saturated(value < from and from or value > to and to or value, dtype) end
                return math.min(math.max(as_f32(value), as_f32(low)), as_f32(high))
              end)
              local what = ("clamp(%s, %s)"):format(text_of(low), text_of(high))
              check(expected, x:clamp(low, high), whole and dtype or "f32", what)
            end
          end
        end
      end)

      it("in where and masked_fill", function()
        local x, mask, chosen = tensor(dtype), {}, {}
        for i = 1, #values[dtype] do
          mask[i] = i % 2
          chosen[i] = mask[i] == 1
        end
        mask = fp8.tensor(mask, {dtype = "u8", device = device})
        for _, number in ipairs(numbers) do
          local whole = is_whole(number)
          local filled = {}
          for i, value in ipairs(values[dtype]) do
            local kept, given = whole and value or as_f32(value), whole and from_number(number, dtype) or f32(number)
            filled[i] = chosen[i] and given or kept
          end
          local what, result = ("with %s"):format(text_of(number)), whole and dtype or "f32"
          check(filled, fp8.where(mask, number, x), result, "where " .. what)
          check(filled, fp8.where(mask:eq(0), x, number), result, "where " .. what)
          check(filled, x:masked_fill(mask, number), result, "masked_fill " .. what)
        end
        for _, other in ipairs(dtypes) do
          local shared = elementwise.promoted(dtype, other)
          for _, value in ipairs(values[other]) do
            local expected = {}
            for i, own in ipairs(values[dtype]) do expected[i] = chosen[i] and own or value end
            local y = integers.tensor({value}, other, device)
            check(expected, fp8.where(mask, x, y), shared, "where with a tensor")
          end
        end
      end)

      it("in fill_, full and tensor", function()
        for _, number in ipairs(numbers) do
          local expected = {from_number(number, dtype), from_number(number, dtype), from_number(number, dtype)}
          local on = {dtype = dtype, device = device}
          check(expected, fp8.zeros({3}, on):fill_(number), dtype, ("fill_(%s)"):format(text_of(number)))
          check(expected, fp8.full({3}, number, on), dtype, ("full of %s"):format(text_of(number)))
          check(expected, fp8.tensor({number, number, number}, on), dtype, ("tensor of %s"):format(text_of(number)))
        end
      end)

      it("in casts from and to every dtype", function()
        local x = tensor(dtype)
        for _, other in ipairs(dtypes) do
          local expected = map(values[dtype], function(value) return saturated(value, other) end)
          check(expected, x:to(other), other, "to " .. other)
          check(expected, fp8.zeros(#expected, {dtype = other, device = device}):copy_(x), other, "copy_ to " .. other)
        end
        for _, other in ipairs(floats) do
          local expected = map(values[dtype], function(value) return reference.round[other](as_f32(value)) end)
          check(expected, x:to(other), other, "to " .. other)
          local y = fp8.tensor(numbers, {device = device}):to(other)
          expected = map(support.flat(y), function(value) return from_number(value, dtype) end)
          check(expected, y:to(dtype), dtype, "from " .. other)
          local z = fp8.zeros(#numbers, {dtype = dtype, device = device})
          check(expected, z:copy_(y), dtype, "copy_ from " .. other)
        end
      end)

      it("in sums, which wrap in 64 bits, and in the largest, the smallest and their places", function()
        local list = values[dtype]
        local sum, largest, smallest, place = 0LL, list[1], list[1], 0LL
        for i, value in ipairs(list) do
          sum = sum + value
          if value > largest then largest, place = value, integers.from_number(i - 1, "i64") end
          if value < smallest then smallest = value end
        end
        local x = tensor(dtype)
        local columns = x:view(-1, 1):expand(-1, 3)
        for _, layout in ipairs {{x, nil}, {columns, 1}, {columns:t():contiguous(), 2}} do
          local y, dimension = unpack(layout, 1, 2)
          local function all(value) return dimension and {value, value, value} or {value} end
          check(all(sum), y:sum(dimension), "i64", "sum")
          check(all(largest), y:max(dimension), dtype, "max")
          check(all(smallest), y:min(dimension), dtype, "min")
          check(all(place), y:argmax(dimension), "i64", "argmax")
        end
      end)

      it("in means, whose sums are exact and divided in float64", function()
        local low, high = unpack(integers.range[dtype])
        -- Lists with their means, which 64 bits hold; then how often each list is repeated.
        local lists = {
          {high}, {low}, {low, high, mean = dtype == "u8" and 127.5 or -0.5},
          {high - 1, low, 0LL, mean = dtype == "u8" and 254 / 3 or -2 / 3},
          {high, high, high - 1, mean = tonumber(high)}, {low, low + 1, low, mean = tonumber(low) + 1 / 3},
          {high, low, high, low, high, low, 7LL, mean = dtype == "u8" and 772 / 7 or 4 / 7},
        }
        for _, list in ipairs(lists) do
          local mean = list.mean or tonumber(list[1])
          if dtype == "u8" and list[1] == high and list[2] == high then mean = 764 / 3 end
          for _, times in ipairs {1, 5, 700, 30000} do
            local x = integers.tensor(list, dtype, device):view(1, -1):expand(times, #list):contiguous()
            local limit = math.abs(mean) * 2 ^ -23
            assert.equal("f32", x:mean().dtype)
            assert.near(mean, x:mean():item(), limit)
            assert.near(mean, x:view(-1, 1):expand(-1, 3):mean(1)[2]:item(), limit)
            assert.near(tonumber(list[#list]), x:mean(1)[#list]:item(), math.abs(tonumber(list[#list])) * 2 ^ -23)
            assert.near(mean, x:mean(2)[times]:item(), limit)
          end
        end
      end)

      it("in arange", function()
        local low, high = unpack(map(integers.range[dtype], tonumber))
        local gap = dtype == "i64" and 2048 or 1 -- of doubles there
        local cases = {
          {high - 2 * gap, gap}, {high + gap, gap}, {high + 2 * gap, -gap}, {low + 2 * gap, -gap}, {low - 2 * gap, gap},
          {low, 2 ^ 61}, {0, 2 ^ 62}, {0, -2 ^ 62}, {high - 2 ^ 40, 2 ^ 39}, {2 ^ 63, 2 ^ 40}, {-0.5, 100.5},
        }
        for _, case in ipairs(cases) do
          local start, step = unpack(case)
          local expected = {}
          for i = 0, 4 do expected[i + 1] = from_number(start + i * step, dtype) end
          local x = fp8.arange(start, start + 5 * step, step, {dtype = dtype, device = device})
          check(expected, x, dtype, ("arange from %.17g by %g"):format(start, step))
        end
        -- Between the doubles above 2^53.
        local first, expected = integers.from_number(2 ^ 53 - 2, "i64"), {}
        for i = 0, 5 do expected[i + 1] = saturated(first + i, dtype) end
        local x = fp8.arange(2 ^ 53 - 2, 2 ^ 53 + 4, {dtype = dtype, device = device})
        check(expected, x, dtype, "arange beyond 2^53")
      end)
    end)
  end

  it("arange of i64 on " .. device .. " saturates", function()
    local x = fp8.arange(2 ^ 63, 2 ^ 63 + 3 * 2048, 2048, {dtype = "i64", device = device})
    local largest = integers.range.i64[2]
    check({largest, largest, largest}, x, "i64", "arange")
  end)
end)

-- Integers of 64 bits from scripts and back: numbers up to 2^53, int64_t beyond. limits_spec has what int64_t is in
-- arithmetic, comparisons, fill_, full and clamp.
local ffi = require "ffi"
local fp8 = require "fp8"
local integers = require "spec.support.integers"
local reference = require "spec.support.reference"
local support = require "spec.support"

local smallest, largest = unpack(integers.range.i64)

-- Beside 2^53, beside what doubles and narrower floats hold further up, and the ends.
local list = {
  9007199254740991LL, 9007199254740992LL, 9007199254740993LL, -9007199254740992LL, -9007199254740993LL,
  1152921504606846976LL, 1152921504606846977LL, largest, largest - 1, smallest, smallest + 1, 0LL, -7LL,
}

local function is_small(integer) return integer >= -9007199254740992LL and integer <= 9007199254740992LL end

support.each_device(function(device)
  local i64 = {dtype = "i64", device = device}

  describe("Integers on " .. device, function()
    it("beyond 2^53 come as int64_t from item and totable, others as numbers", function()
      local x = fp8.tensor(list, i64)
      local values = x:totable()
      for i, integer in ipairs(list) do
        assert.equal(is_small(integer) and "number" or "cdata", type(values[i]))
        assert.is_true(values[i] == integer and x[i]:item() == integer)
        if type(values[i]) == "cdata" then assert.is_true(ffi.istype("int64_t", values[i])) end
      end
      local nested = x:narrow(1, 1, 12):view(2, 3, 2):totable()
      assert.is_true(nested[1][2][1] == list[3] and nested[2][2][2] == list[10])
      assert.is_true(fp8.tensor(largest, i64):totable() == largest)
    end)

    it("go into tensors as they are", function()
      local x = fp8.zeros(#list, i64)
      for i, integer in ipairs(list) do
        x[i] = integer
        assert.is_true(fp8.full({2, 2}, integer, i64)[2][1]:item() == integer)
        assert.is_true(fp8.tensor(integer, i64):item() == integer)
      end
      assert.same(list, integers.list(x))
      assert.same(list, integers.list(fp8.tensor(list, i64)))
      assert.same({largest, 5LL}, integers.list(fp8.tensor({ffi.new("uint64_t", largest), 5ULL}, i64)))
    end)

    it("that 64 bits don't hold are errors, as are other types of C", function()
      local x = fp8.zeros(3, i64)
      local calls = {
        function(value) fp8.full({1}, value) end, function(value) fp8.tensor({1, value}) end,
        function(value) return x + value end, function(value) x:masked_fill(x:eq(0), value) end,
      }
      for _, call in ipairs(calls) do
        support.fails("integers go up to 9223372036854775807, got 9223372036854775808", call, 0x8000000000000000ULL)
        support.fails("got cdata", call, ffi.new "int64_t[1]")
        support.fails("got cdata", call, ffi.typeof "int64_t")
        support.fails("got cdata", call, ffi.cast("void *", 0))
      end
    end)

    it("are rounded once to floating-point dtypes", function()
      -- A tie of the dtype that has `bits` of fraction, and just beside it, which no double holds.
      for dtype, bits in pairs {f32 = 23, bf16 = 7} do
        local on = {dtype = dtype, device = device}
        for _, exponent in ipairs {58, 62} do
          local power = ffi.cast("int64_t", 2 ^ exponent)
          local half = ffi.cast("int64_t", 2 ^ (exponent - bits - 1))
          for steps = 0, 1 do
            local tie = power + 2 * half * steps + half
            local below, above = tonumber(tie - half), tonumber(tie + half)
            for offset, expected in pairs {[-1LL] = below, [0LL] = steps == 0 and below or above, [1LL] = above} do
              assert.equal(expected, fp8.full({1}, tie + offset, on):item())
              assert.equal(-expected, fp8.tensor({-tie - offset}, on)[1]:item())
              assert.equal(1, fp8.full({1}, expected, on):eq(tie + offset):item())
              assert.equal(expected, fp8.zeros(1, on):maximum(tie + offset):item())
              assert.equal(expected, (fp8.zeros(1, on) + (tie + offset)):item())
            end
          end
        end
      end
      assert.equal(math.huge, fp8.full({1}, largest, {dtype = "f16", device = device}):item())
      assert.equal(448, fp8.full({1}, largest, {dtype = "e4m3", device = device}):item())
    end)

    it("are bounds of arange and randint", function()
      local first = 9007199254740993LL
      local function check(expected, ...) assert.same(expected, integers.list(fp8.arange(...))) end
      check({first, first + 1, first + 2}, first, first + 3, i64)
      check({first, first + 3, first + 6}, first, first + 7, 3LL, i64)
      check({largest - 1, largest - 3, largest - 5}, largest - 1, largest - 7, -2, i64)
      check({smallest, -1LL, largest - 1}, smallest, largest, largest, i64)
      check({0LL, first}, 0, first + 1, first, i64)
      assert.equal(0, fp8.arange(first + 3, first, i64):numel())
      local seen = {}
      for _, integer in ipairs(integers.list(fp8.randint(first, first + 3, {100}, i64))) do
        assert.is_true(integer >= first and integer < first + 3)
        seen[tonumber(integer - first)] = true
      end
      assert.same({[0] = true, true, true}, seen)
      assert.is_true(fp8.randint(largest - 1, largest, {1}, i64):item() == largest - 1)
    end)

    it("stay in operators, with the tensor first", function()
      local x = fp8.tensor({1, 2}, i64)
      assert.same({largest, smallest}, integers.list(x + (largest - 1)))
      assert.same({9007199254740993LL, 18014398509481986LL}, integers.list(x * 9007199254740993LL))
      assert.same({2LL, 4LL}, integers.list(x + x * 1LL))
      assert.same({1, 4}, (fp8.tensor({1, 2}, {device = device}) ^ 2LL):totable())
    end)
  end)
end)

describe("Seeds", function()
  it("have 64 bits", function()
    for _, seed in ipairs {largest, smallest, 9007199254740993LL, 3LL, 2 ^ 53, -12} do
      fp8.manual_seed(seed)
      local found, position = fp8.random_state()
      assert.is_true(found == seed and position == 0)
      local numbers = fp8.rand(7):totable()
      fp8.manual_seed(found, position)
      assert.same(numbers, fp8.rand(7):totable())
    end
    fp8.manual_seed(largest)
    local one = fp8.rand(7):totable()
    fp8.manual_seed(largest - 1)
    assert.not_same(one, fp8.rand(7):totable())
  end)

  it("of 64 bits survive in checkpoints", function()
    local path = os.tmpname()
    finally(function()
      os.remove(path)
      fp8.manual_seed(1)
    end)
    local model = fp8.Linear(2, 2)
    for _, seed in ipairs {largest, smallest, 9007199254740993LL, 2 ^ 53, -5} do
      fp8.manual_seed(seed)
      fp8.rand(3)
      fp8.checkpoint.save(path, {model = model})
      local expected = fp8.rand(5):totable()
      fp8.manual_seed(1)
      fp8.checkpoint.load(path, {model = model})
      assert.same(expected, fp8.rand(5):totable())
    end
  end)
end)

it("A derivative of a power takes an int64_t exponent", function()
  local x = fp8.tensor({1, 2, 3}, {requires_grad = true});
  (x ^ 3LL):sum():backward()
  assert.same({3, 12, 27}, x.grad:totable())
  assert.equal(reference.f32(2 * math.log(2)), (function()
    local y = fp8.tensor({1}, {requires_grad = true})
    fp8.tensor({0}):add(2):pow(y):sum():backward()
    return y.grad:item()
  end)())
end)

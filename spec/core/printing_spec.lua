-- tostring of tensors: a title with shape, dtype and device, then all values or an excerpt.
local fp8 = require "fp8"
local integers = require "spec.support.integers"
local support = require "spec.support"

local nan, infinity = 0 / 0, math.huge

support.each_device(function(device)
  local name = device == "cpu" and "cpu" or "cuda:0"

  local function text_of(values, options)
    options = options or {}
    options.device = device
    return tostring(fp8.tensor(values, options))
  end

  --- The text without its runs of spaces.
  local function squeezed(text)
    return (text:gsub(" +", " "):gsub("\n ", "\n"))
  end

  describe("tostring", function()
    it("shows shape, dtype, device and values", function()
      assert.equal(("tensor of shape (2, 2), f32 on %s\n1.5000 -2.0000\n0.2500 100.0000"):format(name),
        squeezed(text_of {{1.5, -2}, {0.25, 100}}))
      assert.equal(("tensor of shape (3), bf16 on %s\n1 2 -3"):format(name),
        squeezed(text_of({1, 2, -3}, {dtype = "bf16"})))
      assert.equal(("tensor of shape (2), i64 on %s\n0 123456789"):format(name),
        squeezed(text_of({0, 123456789}, {dtype = "i64"})))
    end)

    it("shows integers in full", function()
      local function shown(list, dtype)
        return squeezed(tostring(integers.tensor(list, dtype, device))):match "\n(.*)"
      end
      assert.equal("0 -3000000000000000 1", shown({0LL, -3000000000000000LL, 1LL}, "i64"))
      assert.equal("9007199254740993 -9223372036854775808 9223372036854775807",
        shown({9007199254740993LL, -0x7fffffffffffffffLL - 1, 0x7fffffffffffffffLL}, "i64"))
      assert.equal("2147483647 -2147483648", shown({2147483647LL, -2147483648LL}, "i32"))
      local x = integers.tensor({9007199254740993LL, 5LL, 6LL, -9007199254740995LL}, "i64", device)
      assert.equal(("tensor of shape (), i64 on %s: -9007199254740995"):format(name), tostring(x[4]))
      assert.equal("9007199254740993 6\n5 -9007199254740995", squeezed(tostring(x:view(2, 2):t())):match "\n(.*)")
      local long = x:view(4, 1):expand(4, 1000)
      assert.is_truthy(squeezed(tostring(long)):find("9007199254740993 … 9007199254740993", 1, true))
    end)

    it("aligns columns", function()
      local lines = {}
      for line in text_of({{1, 200}, {30, 4}}):gmatch "[^\n]+" do table.insert(lines, line) end
      assert.equal(3, #lines)
      assert.equal(#lines[2], #lines[3])
    end)

    it("shows a tensor without dimensions or elements on one line", function()
      assert.equal(("tensor of shape (), f32 on %s: 2.5000"):format(name), text_of(2.5))
      assert.equal(("tensor of shape (0), f32 on %s"):format(name), text_of {})
      assert.equal(("tensor of shape (3, 0, 2), u8 on %s"):format(name),
        tostring(fp8.zeros(3, 0, 2, {dtype = "u8", device = device})))
    end)

    it("shows NaN and infinities", function()
      local text = squeezed(text_of {nan, infinity, -infinity, 1})
      assert.equal("nan inf -inf 1", text:match "\n(.*)")
      assert.is_truthy(text_of(nan):find("nan", 1, true))
      assert.is_truthy(squeezed(text_of {nan, 0.5}):find("nan 0.5000", 1, true))
    end)

    it("shows very large and very small values with exponents", function()
      assert.is_truthy(text_of({1.25e20, 0.5}):find("1.2500e+20", 1, true))
      assert.is_truthy(text_of({1e-7, 0.5}):find("1.0000e-07", 1, true))
    end)

    it("shows an excerpt of a large tensor, whose values are the first and last ones", function()
      local text = squeezed(tostring(fp8.arange(1000, {device = device})))
      assert.is_truthy(text:find("(1000)", 1, true))
      assert.equal("0 1 2 … 997 998 999", text:match "\n(.*)")
      text = squeezed(tostring(fp8.arange(10000, {device = device}):view(100, 100)))
      assert.is_truthy(text:find("0 1 2 … 97 98 99\n", 1, true))
      assert.is_truthy(text:find("9900 9901 9902 … 9997 9998 9999", 1, true))
      assert.is_nil(text:find("5000", 1, true))
    end)

    it("stays short for any shape", function()
      for _, shape in ipairs {
        {10000}, {100, 100}, {1, 10000}, {10000, 1}, {9, 9, 9, 9}, {5, 5, 5, 5, 5}, {3, 3, 3, 3, 3, 3, 3, 3},
      } do
        local text = tostring(fp8.zeros(shape, {device = device}))
        assert.is_true(#text < 50000, #text .. " characters for rank " .. #shape)
      end
      local huge = tostring(fp8.zeros(1, {device = device}):expand(2 ^ 40))
      assert.is_true(#huge < 200)
    end)

    it("names the matrix of a tensor of more dimensions", function()
      local text = squeezed(tostring(fp8.arange(8, {device = device}):view(2, 2, 2)))
      assert.is_truthy(text:find("(1, :, :)\n0 1\n2 3\n(2, :, :)\n4 5\n6 7", 1, true))
    end)

    it("shows views as what they are", function()
      local x = fp8.arange(6, {device = device}):view(2, 3)
      assert.equal("0 3\n1 4\n2 5", squeezed(tostring(x:t())):match "\n(.*)")
    end)

    it("says that a gradient is required, and changes nothing", function()
      local x = fp8.tensor({1, 2}, {device = device, requires_grad = true})
      assert.is_truthy(tostring(x):find("requires grad", 1, true))
      local y = x * 2
      assert.is_truthy(tostring(y):find("2", 1, true))
      y:sum():backward()
      assert.same({2, 2}, x.grad:totable())
    end)

    it("works in concatenations", function()
      local x = fp8.tensor(1, {device = device})
      assert.equal("x: " .. tostring(x), "x: " .. x)
    end)
  end)
end)

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

    it("works in concatenations, where a tensor without dimensions is its number", function()
      local x = fp8.tensor({1}, {device = device})
      assert.equal("x: " .. tostring(x), "x: " .. x)
      assert.equal("loss 2.386", "loss " .. fp8.tensor(2.386, {device = device}))
      local rounded = fp8.tensor(0.1, {dtype = "bf16", device = device})
      assert.equal("0.1 of 0.100097656", fp8.tensor(0.1, {device = device}) .. " of " .. rounded)
      assert.equal("n = 9007199254740993", "n = " .. integers.tensor({9007199254740993LL}, "i64", device)[1])
      assert.equal("inf nan", fp8.tensor(infinity, {device = device}) .. " " .. fp8.tensor(nan, {device = device}))
    end)

    it("shows float8 in full", function()
      assert.equal("0.001953125 448 -1.5", squeezed(text_of({0.001953125, 448, -1.5}, {dtype = "e4m3"})):match "\n(.*)")
      assert.equal("1.52587890625e-05 3", squeezed(text_of({2 ^ -16, 3}, {dtype = "e5m2"})):match "\n(.*)")
    end)

    it("follows fp8.set_print_options", function()
      local function shown(values, options)
        fp8.set_print_options(options)
        local text = squeezed(text_of(values)):match "\n(.*)"
        fp8.set_print_options()
        return text
      end
      assert.equal("0.33 2.00", shown({1 / 3, 2}, {precision = 2}))
      assert.equal("3.3333e-01 2.0000e+00", shown({1 / 3, 2}, {scientific = true}))
      assert.equal("0.0000 0.5000", shown({1e-7, 0.5}, {scientific = false}))
      assert.equal("0 … 9", shown({0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {threshold = 5, edge = 1}))
      assert.equal("1111 2222 3333\n4444", shown({1111, 2222, 3333, 4444}, {width = 20}))
      assert.equal("0.3333", shown({1 / 3}))
    end)

    it("says of a map what made it, its range and its steps", function()
      local function has(text, map) return tostring(map:to(device)):find(text, 1, true) ~= nil end
      local text = "\n  fp8.create_map(true, 4, 3, 8): 255 values from -1 to 1,\n  the smallest above 0 1.017e-06;"
      assert.is_true(has(text, fp8.create_map(true, 4, 3, 8)))
      assert.is_true(has("fp8.create_linear_map(false, 8): 256 values", fp8.create_linear_map(false)))
      assert.is_false(has("values from", fp8.arange(256)))
    end)
  end)
end)

describe("fp8.set_print_options", function()
  it("refuses what it can't do, and changes nothing then", function()
    support.fails("set_print_options: unknown option precison; did you mean precision?", fp8.set_print_options,
      {precison = 2})
    support.fails("option precision must be a whole number of at least 0, got -1", fp8.set_print_options,
      {precision = -1})
    support.fails("option precision can be 17 at most, got 18", fp8.set_print_options, {precision = 18})
    support.fails("option edge must be a whole number of at least 1, got 0", fp8.set_print_options,
      {width = 30, edge = 0})
    support.fails("options must be a table, got number", fp8.set_print_options, 3)
    assert.equal(4, #tostring(fp8.tensor {0.5}):match "%.(%d+)$")
  end)
end)

describe("fp8.text", function()
  local function reread(value)
    return assert(loadstring("local fp8 = require 'fp8' return " .. fp8.text(value)))()
  end

  it("writes tables as Lua that can be read back", function()
    for _, value in ipairs {
      {1, 2, 3}, {a = 1, ["b c"] = {true, "x\ny\0\"\\"}}, {[5] = 1, ["end"] = 2}, {0.1, 1e300, -5, 2 ^ 53, 1 / 3},
    } do
      assert.same(value, reread(value))
    end
    assert.equal("{1, 2, a = 3}", fp8.text {1, 2, a = 3})
    local recipe = reread(fp8.recipes.mx)
    assert.same(fp8.recipes.mx, recipe)
  end)

  it("writes maps as what makes them, and small tensors too", function()
    for _, text in ipairs {
      "fp8.create_map(true, 4, 3, 8)", "fp8.create_map(false, 5, 3, 8)", "fp8.create_map(true, 2, 1, 4)",
      "fp8.create_dynamic_map(true, 7, 8)", "fp8.create_linear_map(true, 8)",
    } do
      local map = assert(loadstring("local fp8 = require 'fp8' return " .. text))()
      assert.equal(("{%s}"):format(text), fp8.text {map})
    end
    assert.equal('{fp8.tensor({1.5, 2}, {dtype = "bf16"}), fp8.tensor {3}}',
      fp8.text {fp8.tensor({1.5, 2}, {dtype = "bf16"}), fp8.tensor {3}})
    assert.equal("{tensor f32 (2, 3) on cpu}", fp8.text {fp8.zeros(2, 3)})
  end)

  it("cuts what is long, deep or endless, with a count", function()
    local long = {}
    for i = 1, 100 do long[i] = i end
    assert.equal("{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, … 86 more}", fp8.text(long))
    assert.equal("{{{{{{… 2 fields}}}}}}", fp8.text {{{{{{1, 2}}}}}})
    local endless = {}
    endless.again = endless
    assert.equal("{again = {… itself}}", fp8.text(endless))
  end)

  it("breaks lines where they would be too long", function()
    for line in fp8.text(fp8.recipes.rowwise):gmatch "[^\n]+" do assert.is_true(#line <= 100, line) end
    assert.is_truthy(fp8.text(fp8.recipes.mixed):find("\n  rounding = \"nearest\",\n", 1, true))
  end)

  it("gives everything else its own text", function()
    assert.equal(tostring(fp8.zeros(2)), fp8.text(fp8.zeros(2)))
    local model = fp8.nn.Sequential(fp8.Linear(2, 3))
    assert.equal(tostring(model), fp8.text(model))
    assert.is_truthy(fp8.text(fp8):find("\nsoftmax  +exp"))
    assert.is_truthy(tostring(fp8.recipes):find("mixed  +SwitchBack"))
  end)
end)

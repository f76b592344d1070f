-- require "fp8.busted": what its assertions let through, and what they say.
require "fp8.busted"
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails

--- The message of an assertion that fails.
local function message_of(name, ...)
  local ok, message = pcall(assert[name], ...)
  assert.is_false(ok, "the assertion holds")
  return tostring(message)
end

local function contains(message, ...)
  for _, text in ipairs {...} do
    assert.is_truthy(message:find(text, 1, true), ("%q lacks %q"):format(message, text))
  end
end

support.each_device(function(device)
  local on = {device = device}

  describe("assert.tensors_close", function()
    it("takes what is within the tolerances of the dtype, and nothing else", function()
      for dtype, rtol in pairs {f32 = 1.3e-6, f16 = 1e-3, bf16 = 1.6e-2} do
        local x = fp8.tensor({100, -3, 0}, on):to(dtype)
        assert.tensors_close(x, x)
        assert.tensors_close(fp8.tensor({100 * (1 + rtol * 0.7)}, on):to(dtype), x:narrow(1, 1, 1))
        assert.is_not.tensors_close(fp8.tensor({100 * (1 + rtol * 2)}, on):to(dtype), x:narrow(1, 1, 1))
        assert.tensors_close(x:narrow(1, 3, 1) + 9e-6, x:narrow(1, 3, 1))
        assert.is_not.tensors_close(x:narrow(1, 3, 1) + 2e-5, x:narrow(1, 3, 1))
      end
      for _, dtype in ipairs {"u8", "i32", "i64", "e4m3"} do
        local x = fp8.tensor({8, 1}, on):to(dtype)
        assert.tensors_close(x, x:clone())
        assert.is_not.tensors_close(x, fp8.tensor({9, 1}, on):to(dtype))
      end
    end)

    it("takes tolerances: absolute ones, and ones relative to what is expected", function()
      local x, y = fp8.tensor({1, 2}, on), fp8.tensor({1, 2.5}, on)
      assert.tensors_close(x, y, {atol = 0.5})
      assert.is_not.tensors_close(x, y, {atol = 0.49})
      assert.tensors_close(x, y, {rtol = 0.2})
      assert.is_not.tensors_close(y, x, {rtol = 0.2})
      assert.tensors_close(y, x, {rtol = 0.2, atol = 0.1})
      assert.is_not.tensors_close(x, x + 1e-7, {rtol = 0})
    end)

    it("compares integers exactly beyond 2^53", function()
      local a = fp8.tensor({9007199254740993LL}, {dtype = "i64", device = device})
      local b = fp8.tensor({9007199254740992LL}, {dtype = "i64", device = device})
      assert.tensors_close(a, a:clone())
      contains(message_of("tensors_close", a, b), "9007199254740993LL, expected 9007199254740992",
        "largest absolute difference 1 at {1}")
      assert.tensors_close(a, b, {atol = 1})
    end)

    it("takes a number or a table for what is expected, of the other's dtype and device", function()
      local x = fp8.tensor({{1, 2}, {3, 4}}, on):to "bf16"
      assert.tensors_close(x, {{1, 2}, {3, 4}})
      assert.tensors_close(x:sum(), 10)
      assert.is_not.tensors_close(x, {1, 2, 3, 4})
      assert.is_not.tensors_close(x:sum(), 11)
    end)

    it("says which of shape, dtype and device differs, before any number", function()
      local x = fp8.zeros(2, 3, on)
      contains(message_of("tensors_close", x, fp8.ones(3, 2, on)), "the shape is (2, 3), expected (3, 2)")
      contains(message_of("tensors_close", x:to "f16", x + 1), "the dtype is f16, expected f32")
      if device ~= "cpu" then contains(message_of("tensors_close", x, x:cpu() + 1), "the device is", "expected cpu") end
    end)

    it("says how many elements differ, and where the largest differences are", function()
      local x = fp8.tensor({{1, 2, 1000}, {4, 5, 6}}, on)
      local y = fp8.tensor({{1, 2.5, 1001}, {4, 0, 6}}, on):t():contiguous():t()
      contains(message_of("tensors_close", x, y, {atol = 0.4, rtol = 1e-6}),
        "3 of 6 elements differ (50%) by more than 0.4 + 1e-06 · |expected|",
        "largest absolute difference 5 at {2, 2}: 5, expected 0", "largest relative difference inf at {2, 2}")
      contains(message_of("tensors_close", x[1], y[1]), "2 of 3 elements",
        "largest absolute difference 1 at {3}: 1000, expected 1001",
        "largest relative difference 0.2 at {2}: 2, expected 2.5")
      contains(message_of("tensors_close", x:sum(), y:sum()), "at {}")
    end)

    it("lets a NaN or an infinity be none but itself", function()
      local x = fp8.tensor({0 / 0, math.huge, 1}, on)
      contains(message_of("tensors_close", x, x), "1 of 3 elements", "largest absolute difference nan at {1}")
      assert.tensors_close(x, x, {equal_nan = true})
      assert.is_not.tensors_close(x, fp8.tensor({0, math.huge, 1}, on), {equal_nan = true, atol = 1e30})
      assert.is_not.tensors_close(x, fp8.tensor({0 / 0, 1, 1}, on), {equal_nan = true, rtol = 1})
      assert.is_not.tensors_close(fp8.tensor({1}, on), fp8.tensor({math.huge}, on), {rtol = 1})
    end)

    it("of nothing holds", function() assert.tensors_close(fp8.zeros(0, 3, on), fp8.ones(0, 3, on)) end)

    it("reads views and tensors that require gradients", function()
      local x = fp8.arange(6, on):view(2, 3):requires_grad_()
      assert.tensors_close(x:t(), {{0, 3}, {1, 4}, {2, 5}})
      assert.tensors_close(x * 2, (x + x):detach())
    end)

    it("refuses what is no tensor and options that there are not", function()
      local x = fp8.zeros(1, on)
      fails("tensors_close: the actual value must be a tensor, got number", assert.tensors_close, 1, x)
      fails("tensors_close: the expected value must be a tensor, a number or a table of numbers, got nil",
        assert.tensors_close, x)
      fails("tensors_close: unknown option rtl; did you mean rtol?", assert.tensors_close, x, x, {rtl = 1})
      fails("tensors_close: option atol must be a number of at least 0, got -1", assert.tensors_close, x, x,
        {atol = -1})
      fails("tensors_close: option rtol must be a number of at least 0, got nan", assert.tensors_close, x, x,
        {rtol = 0 / 0})
      fails("tensors_close: option equal_nan must be a boolean, got 1", assert.tensors_close, x, x, {equal_nan = 1})
      fails("tensors_close: options must be a table, got number", assert.tensors_close, x, x, 1e-3)
    end)
  end)

  describe("assert.tensors_equal", function()
    it("takes no difference, but that of two NaNs and of two zeros", function()
      local x = fp8.tensor({0 / 0, 0, 1}, on)
      assert.tensors_equal(x, fp8.tensor({0 / 0, -0.0, 1}, on))
      assert.is_not.tensors_equal(x, fp8.tensor({0 / 0, 0, 1 + 2 ^ -23}, on))
      assert.is_not.tensors_equal(x, x:to "f16")
      contains(message_of("tensors_equal", x, x + 1), "Expected the tensors to be equal", "2 of 3 elements differ")
      contains(tostring(select(2, pcall(assert.is_not.tensors_equal, x, x))), "Expected the tensors not to be equal")
      fails("tensors_equal: there are no options, got table", assert.tensors_equal, x, x, {})
    end)
  end)
end)

describe("fp8.busted", function()
  it("serves the specs of another project, whose lines its messages name", function()
    local path = os.tmpname()
    os.remove(path)
    path = path .. "_spec.lua"
    support.write_file(path, [[
local fp8 = require "fp8"
require "fp8.busted"
describe("mine", function()
  it("holds", function()
    assert.tensors_close(fp8.ones(2) + 1e-7, fp8.ones(2))
    assert.is_true(fp8.gradcheck(function(x) return x:tanh() end, fp8.ones(2):requires_grad_()))
  end)
  it("fails", function() assert.tensors_equal(fp8.ones(2, 2), fp8.zeros(2, 2)) end)
end)
]])
    local ok, text = support.run_lua(([[
arg = {[0] = "busted", "-o", "plainTerminal", %q}
require "busted.runner" {standalone = false}
]]):format(path))
    os.remove(path)
    assert.is_false(ok)
    contains(text, "1 success", "1 failure", path:match "[^/]*$" .. ":8: 4 of 4 elements differ (100%)")
  end)
end)

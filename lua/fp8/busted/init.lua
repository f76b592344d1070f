--- Assertions about tensors for busted, of this and of other projects: after `require "fp8.busted"` luassert has them.
--
--   local fp8 = require "fp8"
--   require "fp8.busted"
--   it("doubles", function()
--     assert.tensors_close(double(x), x * 2, {rtol = 1e-5, atol = 1e-8})
--     assert.tensors_equal(double(x):gt(0), x:gt(0))
--     assert.is_true(fp8.gradcheck(double, x:requires_grad_()))
--   end)
local compare = require "fp8.busted.compare"
local core = require "fp8.core"
local luassert = require "luassert"
local nearest = require "fp8.nearest"
local say = require "say"

local known = {rtol = "number", atol = "number", equal_nan = "boolean"}

-- What is wrong with the arguments of an assertion, or nil.
local function complaint(name, arguments)
  local options = arguments[3]
  for position, what in ipairs {"the actual value", "the expected value"} do
    local value = arguments[position]
    if not core.is_tensor(value) and (position == 1 or type(value) ~= "number" and type(value) ~= "table") then
      return ("%s: %s must be a tensor%s, got %s"):format(name, what,
        position == 2 and ", a number or a table of numbers" or "", type(value))
    end
  end
  if options == nil then return nil end
  if name == "tensors_equal" or type(options) ~= "table" then
    return ("%s: %s, got %s"):format(name,
      name == "tensors_equal" and "there are no options" or "options must be a table", type(options))
  end
  for option, value in pairs(options) do
    if not known[option] then
      return ("%s: unknown option %s%s"):format(name, tostring(option), nearest.hint(option, known))
    elseif type(value) ~= known[option] or not (value == true or value == false or value >= 0) then
      return ("%s: option %s must be a %s, got %s"):format(name, option,
        known[option] == "number" and "number of at least 0" or "boolean", tostring(value))
    end
  end
end

local function register(name, message, options_of)
  say:set(("assertion.%s.positive"):format(name), ("Expected the tensors to be %s."):format(message))
  say:set(("assertion.%s.negative"):format(name), ("Expected the tensors not to be %s."):format(message))
  local function assertion(state, arguments, level)
    local wrong = complaint(name, arguments)
    if wrong then error(wrong, level + 1) end
    local difference = compare(arguments[1], arguments[2], options_of(arguments[3]))
    state.failure_message = difference
    arguments.nofmt = {true, true, true} -- what they hold is too much to print
    return difference == nil
  end
  luassert:register("assertion", name, assertion, ("assertion.%s.positive"):format(name),
    ("assertion.%s.negative"):format(name))
end

--- assert.tensors_close(actual, expected [, {rtol =, atol =, equal_nan = false}]): |actual - expected| is at most
-- atol + rtol · |expected| for every element, in double, and shapes, dtypes and devices are the same, as in
-- torch.testing.assert_close. Without either tolerance they are PyTorch's: rtol 1.3e-6 for f32, 1e-3 for f16, 1.6e-2
-- for bf16, all with atol 1e-5, and 0 for other dtypes; one that is left out beside the other is 0. `expected` may be a
-- number or a table of numbers, which take dtype and device of the other. The message has the difference: what of
-- shapes, dtypes and devices differs, or else how many elements, and where the largest absolute and relative ones are.
register("tensors_close", "close", function(options) return options or {} end)

--- assert.tensors_equal(actual, expected): the same values, shape, dtype and device; NaN equals NaN, and 0 equals -0.
register("tensors_equal", "equal", function() return {rtol = 0, atol = 0, equal_nan = true} end)

return luassert

-- The same bits whatever the number of the CPU's threads: of everything but products always, of products where
-- fp8.set_deterministic(true) asks for it; and with that, on a GPU, the same bits in every run.
local fp8 = require "fp8"
local support = require "spec.support"

--- What spec/fixtures/bits.lua prints for each result, with so many threads: a list of lines.
local function results(what, device, threads, deterministic)
  local script = support.fixture "bits.lua"
  local ok, output = support.run(("%s %s %s %s"):format(script, what, device, deterministic and "deterministic" or ""),
    "OMP_NUM_THREADS=" .. threads)
  assert.is_true(ok, output)
  local list = {}
  for line in output:gmatch "[^\n]+" do list[#list + 1] = line end
  assert.is_true(#list > 40, output)
  return list
end

local function assert_same(expected, actual)
  assert.equal(#expected, #actual)
  for i, line in ipairs(expected) do assert.equal(line, actual[i]) end
end

describe("fp8.set_deterministic", function()
  after_each(function() fp8.set_deterministic(false) end)

  it("is off at first, and takes a boolean", function()
    assert.is_false(fp8.is_deterministic())
    fp8.set_deterministic(true)
    assert.is_true(fp8.is_deterministic())
    for _, wrong in ipairs {1, "true", {}} do
      support.fails("set_deterministic: argument 1: boolean expected", fp8.set_deterministic, wrong)
    end
    support.fails("boolean expected", fp8.set_deterministic)
    assert.is_true(fp8.is_deterministic())
  end)

  it("changes products by no more than the order of sums does", function()
    for _, dtype in ipairs {"f32", "bf16", "f16"} do
      local a, b = fp8.randn(3, 130, 500, {dtype = dtype}), fp8.randn(500, 257, {dtype = dtype})
      local expected = a:matmul(b)
      fp8.set_deterministic(true)
      support.close(a:matmul(b), expected)
      support.close(a:matmul(b:unsqueeze(1):expand(3, 500, 257)), expected)
      fp8.set_deterministic(false)
    end
  end)
end)

describe("The number of the CPU's threads", function()
  it("changes no bit of any reduction, derivative or format", function()
    local expected = results("operations", "cpu", 1)
    for _, threads in ipairs {2, 3, 7} do assert_same(expected, results("operations", "cpu", threads)) end
  end)

  for _, what in ipairs {"products", "training"} do
    it(("changes no bit of %s where that is asked for"):format(what), function()
      local expected = results(what, "cpu", 1, true)
      for _, threads in ipairs {2, 3, 7} do assert_same(expected, results(what, "cpu", threads, true)) end
    end)
  end
end)

for _, device in ipairs(support.devices) do
  if device ~= "cpu" then
    describe("Two runs on " .. device, function()
      it("give the same bits of operations", function()
        assert_same(results("operations", device, 1), results("operations", device, 1))
      end)

      for _, what in ipairs {"operations", "products", "training"} do
        it(("give the same bits of %s where that is asked for"):format(what), function()
          local expected = results(what, device, 1, true)
          for _ = 1, 3 do assert_same(expected, results(what, device, 2, true)) end
        end)
      end
    end)
  end
end

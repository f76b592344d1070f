-- The same bits whatever the number of the CPU's threads: of everything but products always, of products where
-- fp8.set_deterministic(true) asks for it; and with that, on a GPU, the same bits in every run. On the CPU, rows of
-- large tensors have the bits of small ones.
local core = require "fp8.core"
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

local columns, part = 4099, 24 -- rows of a part

-- Whether f of whole tensors, (rows, columns) each, has the bits of f of their first rows and their last.
local function check(name, f, ...)
  local whole = {f(...)}
  for _, first in ipairs {1, select(1, ...).shape[1] - part + 1} do
    local inputs = {}
    for i = 1, select("#", ...) do
      local x = select(i, ...)
      inputs[i] = x:narrow(1, first, part):contiguous()
    end
    for i, y in ipairs {f(unpack(inputs))} do
      local same = whole[i]:narrow(1, first, part)
      assert.is_true(y:to "f32":equal(same:to "f32"), ("%s: result %d, rows from %d"):format(name, i, first))
    end
  end
  for _, y in ipairs(whole) do core.free(y) end
end

-- Large tensors on the CPU are fetched ahead (src/cpu/vectors.h), some by loops that small ones do not have.
describe("A large tensor", function()
  for dtype, rows in pairs {f32 = 1032, bf16 = 2064, f16 = 2064} do
    it(("of %s gives what its parts give"):format(dtype), function()
      fp8.manual_seed(rows)
      local place = {dtype = dtype}
      local x, y, weight = fp8.randn(rows, columns, place), fp8.randn(rows, columns, place), fp8.randn(columns, place)
      check("gt", function(a, b) return a:gt(b) end, x, y)
      check("add", function(a, b) return a:add(b), a:add(weight), a:where(b:gt(0), b) end, x, y)
      check("gelu", function(a) return a:gelu() end, x)
      check("cast", function(a) return a:to(dtype == "f32" and "bf16" or "f32"), a:to "e4m3" end, x)
      check("softmax", function(a) return core.softmax(a, -1), core.log_softmax(a, -1) end, x)
      check("gradients of softmax", function(a, b)
        return core.softmax_backward(a, b, -1, false), core.softmax_backward(a, b, -1, true)
      end, x, y)
      check("norms", function(a) return fp8.layer_norm(a, weight, weight), (fp8.rms_norm(a, weight)) end, x)
      check("gradient of layer_norm", function(a, dy)
        local normalized, mean, inverse = core.layer_norm(a, weight, weight, 1e-5)
        core.free(normalized)
        local given = {x = a, dy = dy, mean = mean, inverse = inverse, weight = weight, want_x = true}
        return core.normalize_backward(given).x
      end, x, y)
      check("sums", function(a) return a:sum(-1), a:mean(-1) end, x)
      for _, tile in ipairs {{1, 16}, {8, 16}, {8, 1}} do
        local quantizer = core.quantizer {format = "e2m1", blocksize = tile, scale_rounding = "mx"}
        check("tiles", function(a) return (core.quantize_values(a, dtype, nil, quantizer)) end, x)
      end
    end)
  end
end)

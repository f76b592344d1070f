-- Reductions over any dimensions.
local ffi = require "ffi"
local fp8 = require "fp8"
local reduce = require "spec.support.reference.reduce"
local support = require "spec.support"

support.each_device(function(device)
  describe("reductions", function()
    --- x:norm takes p first.
    local function reduction(name, x, ...)
      if name == "norm" then return x:norm(2, ...) end
      return x[name](x, ...)
    end

    for _, name in ipairs {"sum", "mean", "prod", "norm", "max", "min", "argmax", "argmin"} do
      it(name .. " agrees with a walk over the elements, for any dimensions, strides and dtypes", function()
        local random = support.random(#name)
        fp8.manual_seed(#name)
        for trial = 1, 40 do
          local sizes = {}
          for d = 1, random(4) do sizes[d] = random(7) end
          local order = support.permutation(random, #sizes)
          local dtype = ({"f32", "bf16", "f16", "i32"})[trial % 4 + 1]
          local scale = name == "prod" and 1.5 or 5
          local x = (fp8.randn(sizes, {device = device}) * scale):to(dtype):permute(order)
          local reduced, dimensions = {}, {}
          for d = 1, #sizes do
            if random() < 0.5 then
              reduced[d] = true
              table.insert(dimensions, random() < 0.5 and d or d - #sizes - 1)
            end
          end
          local expected, kept_shape, full_shape = reduce(name, support.flat(x), x.shape, reduced)
          local y = reduction(name, x, dimensions)
          assert.same(kept_shape, y.shape)
          assert.same(full_shape, reduction(name, x, dimensions, true).shape)
          local exact = name:find "max" or name:find "min"
          local actual = support.flat(y)
          for i, value in ipairs(expected) do
            local limit = exact and 0 or ({f32 = 1e-5, bf16 = 8e-3, f16 = 1e-3})[y.dtype] or 0
            local size = math.max(math.abs(value), y.dtype == "f32" and 5 or 1)
            if not (math.abs(actual[i] - value) <= limit * size) then
              error(("%s of %s, element %d: expected %.9g, got %.9g"):format(name, dtype, i, value, actual[i]))
            end
          end
        end
      end)
    end

    it("give integers their own result dtypes", function()
      local x = fp8.tensor({{200, 100}, {50, 250}}, {dtype = "u8", device = device})
      assert.same({"i64", 600}, {x:sum().dtype, x:sum():item()})
      assert.same({"f32", 150}, {x:mean().dtype, x:mean():item()})
      assert.same({"u8", 250}, {x:max().dtype, x:max():item()})
      assert.same({"i64", 3}, {x:argmax().dtype, x:argmax():item()})
    end)

    it("sum long float32 rows and columns to 1e-6", function()
      local x = fp8.rand(1000, 3000, {device = device}) + 1
      local exact = 0
      for _, value in ipairs(support.flat(x:narrow(1, 1, 3))) do exact = exact + value end
      assert.is_true(math.abs(x:narrow(1, 1, 3):sum():item() / exact - 1) < 1e-6)
      local column = 0
      for _, value in ipairs(support.flat(x:select(2, 17))) do column = column + value end
      assert.is_true(math.abs(x:sum(1)[17]:item() / column - 1) < 1e-6)
      for _, shape in ipairs {{1025, 1064}, {1500, 2112}, {3000, 5120}} do
        local wide = fp8.rand(shape[1], shape[2]) + 1
        support.close(wide:to(device):sum(1), wide:sum(1), 1e-6)
      end
      local ones = fp8.ones(5000, 4000, {device = device})
      assert.equal(2e7, ones:sum():item())
      assert.equal(1, ones:mean():item())
    end)

    it("propagate NaN, and take it as largest", function()
      local x = fp8.tensor({{1, 0 / 0, 3}, {4, 5, 6}}, {device = device})
      support.equal(x:max(2), fp8.tensor {0 / 0, 6})
      support.equal(x:min(2), fp8.tensor {0 / 0, 4})
      assert.same({1, 2}, x:argmax(2):totable())
    end)

    it("find extremes, NaN and variances in long rows and columns of every dtype", function()
      for _, dtype in ipairs {"f32", "bf16", "f16"} do
        local x = (fp8.randn(700, 1104, {device = device}) + 20):to(dtype)
        for _, name in ipairs {"max", "min", "sum", "norm", "var", "std"} do
          for dimension = 1, 2 do
            -- The same by float32, of a view that no vectors fit.
            local wide = fp8.zeros(701, 1105, {device = device}):narrow(1, 2, 700):narrow(2, 2, 1104)
            wide:copy_(x)
            local expected, actual = reduction(name, wide, dimension), reduction(name, x, dimension)
            if name == "max" or name == "min" then
              support.equal(actual:to "f32", expected)
            else
              support.close(actual, expected:to(dtype))
            end
          end
        end
        x:narrow(1, 333, 1):narrow(2, 777, 1):fill_(0 / 0)
        x:narrow(1, 444, 1):narrow(2, 888, 1):fill_(-math.huge)
        for _, name in ipairs {"max", "min"} do
          local rows, columns = x[name](x, 2):totable(), x[name](x, 1):totable()
          for i = 1, 700 do assert.equal(i == 333, rows[i] ~= rows[i]) end
          for j = 1, 1104 do assert.equal(j == 777, columns[j] ~= columns[j]) end
          assert.equal(name == "min", rows[444] == -math.huge)
        end
      end
    end)

    it("of 16 bits neither overflow nor vanish on the way", function()
      local x = fp8.full({1000, 40}, 1e38, {dtype = "bf16", device = device})
      x:narrow(1, 1, 500):mul_(-1)
      local columns = device == "cpu" and x or x * 2 ^ -10 -- a GPU adds rows up in float32
      support.equal(columns:sum(1), fp8.zeros(40):to "bf16")
      support.equal(x:t():contiguous():sum(2), fp8.zeros(40):to "bf16")
      x:narrow(1, 10, 1):narrow(2, 3, 1):fill_(0 / 0)
      x:narrow(1, 20, 1):narrow(2, 4, 1):fill_(math.huge)
      local sums = x:mean(1):totable()
      assert.is_true(sums[3] ~= sums[3] and sums[4] == math.huge and sums[5] == 0)
      local tiny = fp8.full({1000, 40}, 2 ^ -100, {dtype = "bf16", device = device})
      for dimension = 1, 2 do
        local norm = 2 ^ -100 * math.sqrt(dimension == 1 and 1000 or 40)
        support.close(tiny:norm(2, dimension), fp8.full({dimension == 1 and 40 or 1000}, norm, {dtype = "bf16"}))
      end
      support.close(tiny:t():contiguous():norm(2, 2), tiny:norm(2, 1))
      local half = fp8.full({300, 300}, 60000, {dtype = "f16", device = device})
      assert.same({60000, 60000}, {half:mean(1):max():item(), half:mean():item()})
    end)

    it("take the first of equal elements", function()
      local x = fp8.zeros(3000, {device = device})
      assert.equal(0, x:argmax():item())
      x:narrow(1, 1001, 2000):fill_(1)
      assert.equal(1000, x:argmax():item())
    end)

    it("multiply long rows and columns, and integers modulo 2^64", function()
      local x = fp8.rand(3000, 40, {device = device}) * 0.02 + 0.99
      local function check(y, part)
        local exact = 1
        for _, value in ipairs(support.flat(part)) do exact = exact * value end
        assert.is_true(math.abs(y:item() / exact - 1) < 1e-6)
      end
      check(x:prod(1)[17], x:select(2, 17))
      check(x:prod(2)[18], x[18])
      check(x:flatten():prod(), x)
      local odd = fp8.arange(1, 8001, 2, {dtype = "i64", device = device})
      local product = 1ULL
      for i = 1, 7999, 2 do product = product * i end
      assert.is_true(odd:prod():item() == ffi.cast("int64_t", product))
      assert.is_true(odd:view(-1, 1):expand(-1, 9):prod(1)[3]:item() == ffi.cast("int64_t", product))
    end)

    it("take norms without squares that overflow or vanish", function()
      for _, scale in ipairs {1e30, 1e-30} do
        local x = fp8.tensor({3, -4}, {device = device}) * scale
        assert.is_true(math.abs(x:norm():item() / (5 * scale) - 1) < 1e-6)
        assert.is_true(math.abs(x:norm(3):item() / (91 ^ (1 / 3) * scale) - 1) < 1e-6)
        assert.is_true(math.abs(x:std():item() / (7 / math.sqrt(2) * scale) - 1) < 1e-6)
      end
      local x = fp8.tensor({300, 400}, {dtype = "f16", device = device})
      assert.same({"f16", 500}, {x:norm().dtype, x:norm():item()})
      assert.same({700, 400, 300, 2}, {x:norm(1):item(), x:norm(math.huge):item(), x:norm(-math.huge):item(),
        x:norm(0):item()})
      local whole = fp8.tensor({3, 4}, {dtype = "u8", device = device})
      assert.same({"f32", 5}, {whole:norm().dtype, whole:norm():item()})
      support.equal(fp8.tensor({1, math.huge}, {device = device}):norm(3), fp8.tensor(math.huge))
      support.equal(fp8.tensor({1, 0 / 0}, {device = device}):norm(3), fp8.tensor(0 / 0))
      support.equal(fp8.zeros(2, {device = device}):norm(3), fp8.tensor(0))
      support.fails("norm: p must be", function() x:norm "2" end)
    end)

    it("find the first smallest, also of the ends of ranges", function()
      local x = fp8.tensor({5LL, -0x7fffffffffffffffLL - 1, 0x7fffffffffffffffLL}, {dtype = "i64", device = device})
      assert.same({1, 2}, {x:argmin():item(), x:argmax():item()})
      assert.equal(1, fp8.tensor({5, 0, 255, 0}, {dtype = "u8", device = device}):argmin():item())
      assert.equal(1, fp8.tensor({5, 0 / 0, -1}, {device = device}):argmin():item())
    end)

    it("of no elements are 0, NaN, or an error", function()
      local x = fp8.zeros(2, 0, {device = device})
      assert.same({1, 1}, x:prod(2):totable())
      assert.same({0, 0}, x:norm(2, 2):totable())
      assert.same({0, 0}, x:norm(3, 2):totable())
      assert.same({0}, x:norm(3, 1).shape)
      assert.same({-math.huge, -math.huge}, x:logsumexp(2):totable())
      assert.same({0, 0}, x:any(2):totable())
      assert.same({1, 1}, x:all(2):totable())
      support.equal(x:var(2), fp8.tensor {0 / 0, 0 / 0})
      assert.same({0, 0}, x:sum(2):totable())
      support.equal(x:mean(2), fp8.tensor {0 / 0, 0 / 0})
      support.fails("no elements", function() x:max(2) end)
      assert.same({0}, x:max(1).shape)
    end)
  end)
end)

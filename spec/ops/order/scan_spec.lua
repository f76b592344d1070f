-- Running sums and products.
local fp8 = require "fp8"
local support = require "spec.support"

--- What f makes of each row along a dimension of a tensor, given as a list and the list that it fills.
local function along(x, dimension, f)
  local moved = x:transpose(dimension, -1):contiguous()
  local values, n, results = support.flat(moved), moved:size(-1), {}
  for start = 0, #values - 1, n do
    local row, out = {}, {}
    for i = 1, n do row[i] = values[start + i] end
    f(row, out)
    for i = 1, n do results[start + i] = out[i] end
  end
  return results, moved.shape
end

local function sums(row, out)
  local sum = 0
  for i, value in ipairs(row) do
    sum = sum + value
    out[i] = sum
  end
end

local function products(row, out)
  local product = 1
  for i, value in ipairs(row) do
    product = product * value
    out[i] = product
  end
end

local function expected(x, dimension, f, dtype)
  local results, shape = along(x:cpu(), dimension, f)
  return fp8.tensor(results, {dtype = dtype}):view(shape):transpose(dimension, -1)
end

-- Rows and columns for a warp, a thread block and several, in whole vectors and not; long ones in slices.
local shapes = {
  {1}, {7}, {256}, {257}, {2048}, {5001}, {70001}, {3, 40}, {5, 264}, {4, 2056}, {3, 4100}, {30, 3}, {40, 20},
  {100, 520}, {2, 70, 17}, {3, 5, 2, 3}, {2, 1, 33}, {2000, 16}, {2, 66000},
}

support.each_device(function(device)
  local on = {device = device}

  describe("cumsum", function()
    it("adds up along any dimension of any shape", function()
      local random = support.random(1)
      for _, shape in ipairs(shapes) do
        -- Multiples of 1/8, whose sums are exact in any order.
        local x = (fp8.randint(-99, 99, shape, on):to("f32") / 8)
        local dimension = random(#shape)
        support.same_bytes(x:cumsum(dimension), expected(x, dimension, sums, "f32"))
        support.same_bytes(x:cumsum(dimension - #shape - 1), x:cumsum(dimension))
      end
    end)

    it("rounds once to every float dtype", function()
      for _, dtype in ipairs {"f32", "f16", "bf16", "e4m3", "e5m2"} do
        for _, shape in ipairs {{5, 300}, {300, 40}, {2, 3, 20}} do
          local x = fp8.randn(shape, on):to(dtype)
          local y = x:cumsum(2)
          assert.equal(dtype, y.dtype)
          support.equal(y, expected(x, 2, sums, dtype))
        end
      end
    end)

    it("of integers is i64, and wraps around", function()
      for _, dtype in ipairs {"u8", "i32", "i64"} do
        local x = fp8.randint(0, 200, {3, 700}, {dtype = dtype, device = device})
        local y = x:cumsum(2)
        assert.equal("i64", y.dtype)
        support.equal(y, expected(x, 2, sums, "i64"))
        support.equal(x:cumsum(1), expected(x, 1, sums, "i64"))
      end
      local large = fp8.tensor({9007199254740993LL, 1, 2}, {dtype = "i64", device = device})
      support.same_bytes(large:cumsum(1),
        fp8.tensor({9007199254740993LL, 9007199254740994LL, 9007199254740996LL}, {dtype = "i64"}))
      local most = fp8.tensor({9223372036854775807LL, 1}, {dtype = "i64", device = device})
      support.same_bytes(most:cumsum(1),
        fp8.tensor({9223372036854775807LL, -9223372036854775807LL - 1}, {dtype = "i64"}))
    end)

    it("stays finite where the sums come back to be, and keeps NaN and infinities", function()
      local x = fp8.tensor({3e38, 3e38, -3e38, -3e38}, on)
      support.equal(x:cumsum(1), fp8.tensor {3e38, math.huge, 3e38, 0})
      local y = fp8.tensor({1, math.huge, 1, -math.huge, 1, 0 / 0, 1}, on)
      support.equal(y:cumsum(1), fp8.tensor {1, math.huge, math.huge, 0 / 0, 0 / 0, 0 / 0, 0 / 0})
    end)
  end)

  describe("cumprod", function()
    it("multiplies along any dimension of any shape", function()
      local random = support.random(2)
      for _, shape in ipairs(shapes) do
        -- Powers of 2, whose products are exact; no product leaves the range of doubles.
        local exponents = fp8.randint(-1, 2, shape, on):to("f32")
        local x = fp8.where(fp8.rand(shape, on):lt(0.3), -1, 1) * 2 ^ exponents
        local dimension = random(#shape)
        support.equal(x:cumprod(dimension), expected(x, dimension, products, "f32"))
        local z = x:masked_fill(fp8.rand(shape, on):lt(0.01), 0)
        support.equal(z:cumprod(dimension), expected(z, dimension, products, "f32"))
      end
    end)

    it("rounds once to every float dtype", function()
      for _, dtype in ipairs {"f32", "f16", "bf16", "e4m3", "e5m2"} do
        local x = (fp8.rand({5, 30}, on) + 0.5):to(dtype)
        local y = x:cumprod(2)
        assert.equal(dtype, y.dtype)
        local tolerance = ({f32 = 1e-6, f16 = 1e-3, bf16 = 8e-3, e4m3 = 0.1, e5m2 = 0.2})[dtype]
        support.close(y:to("f32"), expected(x, 2, products, "f32"), tolerance)
      end
    end)

    it("comes back from beyond the largest and the smallest number", function()
      for _, n in ipairs {100, 700, 5000} do
        local up, down = fp8.full({n}, 1024, on), fp8.full({n}, 1 / 1024, on)
        local both, there = fp8.cat({up, down}, 1):cumprod(1), fp8.cat({down, up}, 1):cumprod(1)
        assert.same({math.huge, 1024, 1}, both:index_select(1, fp8.tensor({n - 1, 2 * n - 2, 2 * n - 1},
          {dtype = "i64", device = device})):totable())
        assert.same({0, 1 / 1024, 1}, there:index_select(1, fp8.tensor({n - 1, 2 * n - 2, 2 * n - 1},
          {dtype = "i64", device = device})):totable())
        -- 0 stays 0, whatever comes.
        local zero = fp8.cat({fp8.zeros(1, on), up, up}, 1):cumprod(1)
        assert.equal(0, zero:abs():max():item())
      end
    end)

    it("of integers is i64, and wraps around", function()
      local x = fp8.full({90}, 3, {dtype = "u8", device = device})
      local powers, power = {}, 1LL
      for i = 1, 90 do
        power = power * 3
        powers[i] = power
      end
      local reference = fp8.tensor(powers, {dtype = "i64"})
      support.same_bytes(x:cumprod(1), reference)
      support.same_bytes(x:view(1, 90, 1):expand(2, 90, 20):cumprod(2)[2]:select(2, 5), reference)
    end)
  end)

  describe("Scans", function()
    it("take views, and tensors without elements or dimensions", function()
      local x = fp8.randint(-9, 9, {6, 50, 3}, on):to("f32")
      for _, view in ipairs {
        x:transpose(1, 2), x:narrow(2, 7, 30), x:select(3, 2), x[1]:view(1, 50, 3):expand(4, 50, 3),
      } do
        support.same_bytes(view:cumsum(2), view:contiguous():cumsum(2))
      end
      assert.same({0, 3}, fp8.zeros(0, 3, on):cumsum(1).shape)
      assert.same({0, 3}, fp8.zeros(0, 3, on):cumprod(2).shape)
      local scalar = fp8.full({}, 5, on)
      assert.same({}, scalar:cumsum(1).shape)
      assert.equal(5, scalar:cumprod(-1):item())
      scalar:requires_grad_():cumsum(1):backward()
      assert.equal(1, scalar.grad:item())
    end)

    it("are written in place", function()
      local x = fp8.tensor({{1, 2}, {3, 4}}, on)
      assert.equal(x, x:cumsum_(1))
      assert.same({{1, 2}, {4, 6}}, x:totable())
      assert.same({{1, 2}, {4, 24}}, x:cumprod_(2):totable())
      local whole = fp8.tensor({1, 2}, {dtype = "i32", device = device})
      support.fails("cumsum_: the result is i64, which a tensor of dtype i32 can't take", whole.cumsum_, whole, 1)
      support.fails("cumprod_: this tensor requires a gradient", function() x:requires_grad_():cumprod_(1) end)
    end)

    it("give on every device the bits that they give on the CPU", function()
      if device == "cpu" then return end
      for _, dtype in ipairs {"f16", "bf16", "e4m3", "e5m2", "u8", "i32", "i64"} do
        for _, shape in ipairs {{9, 300}, {300, 33}, {3, 5000}} do
          local x = (fp8.randn(shape) * 2):to(dtype)
          support.same_bytes(x:to(device):cumsum(2), x:cumsum(2))
          support.same_bytes(x:to(device):cumprod(1), x:cumprod(1))
        end
      end
    end)

    it("refuse what they can't take", function()
      local x = fp8.zeros(2, 3, on)
      support.fails("cumsum: argument 2", function() x:cumsum() end)
      support.fails("cumsum: argument 2", function() x:cumsum(3) end)
      support.fails("cumprod: argument 1", function() fp8.cumprod({1, 2}, 1) end)
    end)
  end)
end)

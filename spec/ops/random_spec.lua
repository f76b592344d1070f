local fp8 = require "fp8"
local support = require "spec.support"

local function moments(x)
  local values = x:to("f32")
  local mean = values:mean():item()
  return mean, ((values - mean) ^ 2):mean():item()
end

support.each_device(function(device)
  describe("random tensors", function()
    it("repeat after the same seed and go on without one", function()
      for _, name in ipairs {"rand", "randn"} do
        fp8.manual_seed(11)
        local first, second = fp8[name](1001, {device = device}), fp8[name](1001, {device = device})
        fp8.manual_seed(11)
        local again = fp8[name](1001, {device = device})
        support.equal(again, first)
        assert.is_true(support.error(second, first) > 0.1)
        fp8.manual_seed(12)
        assert.is_true(support.error(fp8[name](1001, {device = device}), first) > 0.1)
      end
    end)

    it("go on from a state that was asked for", function()
      fp8.manual_seed(-5)
      fp8.rand(7, {device = device})
      local seed, position = fp8.random_state()
      assert.equal(-5, seed)
      local expected = fp8.randn(1001, {device = device})
      fp8.manual_seed(99)
      fp8.manual_seed(seed, position)
      support.equal(fp8.randn(1001, {device = device}), expected)
      support.fails("manual_seed", fp8.manual_seed, 1, -1)
      support.fails("manual_seed", fp8.manual_seed, 1, "x")
    end)

    it("fill tensors that are there, views too, after the seed", function()
      for _, dtype in ipairs {"f32", "f16", "bf16"} do
        local function filled(name, ...)
          fp8.manual_seed(3)
          local x = fp8.zeros(201, 40, {device = device, dtype = dtype})
          local view = x:t():narrow(1, 1, 20)
          assert.equal(view, view[name](view, ...))
          assert.equal(0, x:narrow(2, 21, 20):abs():sum():item())
          return view
        end
        fp8.manual_seed(3)
        local expected = (fp8.randn(20, 201, {device = device}) * 2 + 3):to(dtype)
        support.same_bytes(filled("normal_", 3, 2), expected)
        fp8.manual_seed(3)
        expected = (fp8.rand(20, 201, {device = device}) * 3 - 1):to(dtype)
        expected = expected:masked_fill(expected:ge(2), -1)
        support.same_bytes(filled("uniform_", -1, 2), expected)
        fp8.manual_seed(3)
        expected = fp8.rand(20, 201, {device = device}):lt(0.25)
        support.equal(filled("bernoulli_", 0.25), expected)
        local mean, variance = moments(filled "normal_")
        assert.is_true(math.abs(mean) < 0.07 and math.abs(variance - 1) < 0.1)
        mean, variance = moments(filled "uniform_")
        assert.is_true(math.abs(mean - 1 / 2) < 0.02 and math.abs(variance - 1 / 12) < 0.01)
        assert.is_true(math.abs(moments(filled "bernoulli_") - 0.5) < 0.04)
      end
      assert.is_true(fp8.zeros(20000, {device = device, dtype = "bf16"}):uniform_(5, 6):max():item() < 6)
      local bits = fp8.zeros(1000, {device = device, dtype = "i64"}):bernoulli_(0.9):sum():item()
      assert.is_true(bits > 850 and bits < 950)
      for _, shape in ipairs {{}, {0}, {3, 0}} do
        assert.same(shape, fp8.zeros(shape, {device = device}):normal_():uniform_():bernoulli_().shape)
      end
    end)

    it("fill no tensor with what can't be", function()
      local x = fp8.zeros(3, {device = device})
      support.fails("normal_: std must be at least 0, got -1", fp8.normal_, x, 0, -1)
      support.fails("normal_: mean must be a finite number, got table", function() x:normal_ {0} end)
      support.fails("uniform_: low must be at most high, got 2 and 1", fp8.uniform_, x, 2)
      support.fails("uniform_: high must be a finite number, got inf", fp8.uniform_, x, 0, math.huge)
      support.fails("bernoulli_: p must be from 0 to 1, got 1.5", fp8.bernoulli_, x, 1.5)
      support.fails("normal_: a floating-point tensor is needed, got i64", fp8.normal_, x:to "i64")
      support.fails("uniform_: argument 1: tensor expected, got nil", fp8.uniform_)
      x:requires_grad_()
      for _, name in ipairs {"normal_", "uniform_", "bernoulli_"} do
        support.fails(name .. ": this tensor requires a gradient", fp8[name], x)
        fp8.no_grad(fp8[name], x)
      end
      assert.is_true(x.requires_grad)
    end)

    it("have their distribution's mean and variance", function()
      fp8.manual_seed(1)
      for _, dtype in ipairs {"f32", "f16", "bf16"} do
        local mean, variance = moments(fp8.rand(1000, 1000, {device = device, dtype = dtype}))
        assert.is_true(math.abs(mean - 0.5) < 4e-3 and math.abs(variance - 1 / 12) < 1e-3)
        mean, variance = moments(fp8.randn(1000, 1000, {device = device, dtype = dtype}))
        assert.is_true(math.abs(mean) < 4e-3 and math.abs(variance - 1) < 6e-3)
      end
    end)

    it("keep uniform values below 1", function()
      for _, dtype in ipairs {"f32", "f16", "bf16"} do
        local x = fp8.rand(1000000, {device = device, dtype = dtype})
        assert.is_true(x:max():item() < 1 and x:min():item() >= 0)
      end
    end)

    it("have normal tails", function()
      fp8.manual_seed(2)
      local x = fp8.randn(4000000, {device = device}):abs()
      for limit, share in pairs {[1] = 0.317311, [2] = 0.0455003, [3] = 0.0026998, [4] = 6.334e-5} do
        local found = x:gt(limit):sum():item() / 4000000
        assert.is_true(math.abs(found - share) < 5 * math.sqrt(share / 4000000), ("beyond %d: %g"):format(limit, found))
      end
    end)

    it("draw integers from the whole range and nothing else", function()
      fp8.manual_seed(3)
      local x = fp8.randint(-2, 5, {100000}, {device = device})
      assert.equal("i64", x.dtype)
      for value = -2, 4 do
        assert.is_true(math.abs(x:eq(value):sum():item() / 100000 - 1 / 7) < 0.006)
      end
      assert.same({-2, 4}, {x:min():item(), x:max():item()})
      local wide = fp8.randint(0, 2 ^ 50, {1000}, {device = device})
      assert.is_true(wide:max():item() > 2 ^ 49)
      assert.equal("u8", fp8.randint(0, 10, {3}, {device = device, dtype = "u8"}).dtype)
      support.fails("must be below", function() fp8.randint(3, 3, {2}, {device = device}) end)
    end)

    it("draw integers only in dtypes that hold all of them", function()
      local exact = {f32 = {-2 ^ 24, 2 ^ 24}, f16 = {-2048, 2048}, bf16 = {-256, 256}, u8 = {0, 255},
        i32 = {-2 ^ 31, 2 ^ 31 - 1}, i64 = {-2 ^ 53, 2 ^ 53 - 1}}
      for dtype, ends in support.sorted_pairs(exact) do
        local low, high = unpack(ends)
        local options = {dtype = dtype, device = device}
        for _, range in ipairs {{low, low + 3}, {high - 2, high + 1}} do
          local x = fp8.randint(range[1], range[2], {20000}, options):to("i64")
          for value = range[1], range[2] - 1 do
            assert.is_true(math.abs(x:eq(value):sum():item() / 20000 - 1 / 3) < 0.02, dtype)
          end
          assert.same({range[1], range[2] - 1}, {x:min():item(), x:max():item()})
        end
        fp8.randint(low, high + 1, {3}, options)
        if dtype ~= "i64" then
          support.fails(dtype .. " does not hold all integers", fp8.randint, low, high + 2, {3}, options)
          support.fails(dtype .. " does not hold all integers", fp8.randint, low - 1, high, {3}, options)
        end
      end
      support.fails("from 250 to 259: it does from -256 to 256", fp8.randint, 250, 260, {9},
        {dtype = "bf16", device = device})
      support.fails("does not hold", fp8.randint, 0, 70000, {9}, {dtype = "f16", device = device})
      support.fails("must not be a float8 type", fp8.randint, 0, 2, {9}, {dtype = "e4m3", device = device})
    end)

    if device == "cpu" then return end

    it("are the same numbers as on the CPU, bit for bit", function()
      for _, dtype in ipairs {"f32", "f16", "bf16"} do
        for _, name in ipairs {"rand", "randn"} do
          fp8.manual_seed(5)
          local here = fp8[name](300007, {device = device, dtype = dtype})
          fp8.manual_seed(5)
          support.equal(here, fp8[name](300007, {dtype = dtype}))
        end
      end
      fp8.manual_seed(6)
      local here = fp8.randint(-1000, 2 ^ 40, {100003}, {device = device})
      fp8.manual_seed(6)
      support.equal(here, fp8.randint(-1000, 2 ^ 40, {100003}))
    end)
  end)
end)

-- fp8.nn.init: values, distributions and errors. Gains and deviations are PyTorch's formulas.
local fp8 = require "fp8"
local support = require "spec.support"

local init, fails = fp8.nn.init, support.fails

--- Mean, standard deviation, least and largest of a tensor's elements.
local function measures(x)
  x = x:float()
  return x:mean():item(), x:std():item(), x:min():item(), x:max():item()
end

local function near(expected, found, tolerance)
  assert.is_true(math.abs(found - expected) <= tolerance, ("expected %g, got %g"):format(expected, found))
end

support.each_device(function(device)
  local function parameter(...) return fp8.zeros({...}, {device = device, requires_grad = true}) end

  describe("nn.init", function()
    it("fills parameters in place", function()
      for name, arguments in support.sorted_pairs {
        uniform_ = {-1, 1}, normal_ = {1, 2}, constant_ = {3}, zeros_ = {}, ones_ = {}, eye_ = {},
        xavier_uniform_ = {2}, xavier_normal_ = {}, kaiming_uniform_ = {}, kaiming_normal_ = {}, trunc_normal_ = {},
      } do
        for _, dtype in ipairs {"f32", "f16", "bf16"} do
          local x = fp8.full({6, 5}, 9, {device = device, dtype = dtype, requires_grad = true})
          fp8.manual_seed(7)
          assert.equal(x, init[name](x, unpack(arguments)))
          assert.is_true(x.requires_grad and x.is_leaf)
          assert.equal(dtype, x.dtype)
          assert.equal(0, x:eq(9):sum():item())
          local again = fp8.zeros(5, 6, {device = device}):t()
          fp8.manual_seed(7)
          init[name](again, unpack(arguments))
          -- uniform_ takes what rounding made its upper bound elsewhere.
          if dtype == "f32" or not name:find "uniform" then support.same_bytes(x, again:to(dtype)) end
        end
      end
      local x = parameter(2, 3)
      assert.same({{3, 3, 3}, {3, 3, 3}}, init.constant_(x, 3):totable())
      assert.same({{1, 1, 1}, {1, 1, 1}}, init.ones_(x):totable())
      assert.same({{1, 0, 0}, {0, 1, 0}}, init.eye_(x):totable())
      assert.same({{0, 0, 0}, {0, 0, 0}}, init.zeros_(x):totable())
    end)

    it("has the gains of PyTorch", function()
      for name, gain in support.sorted_pairs {
        linear = 1, conv2d = 1, sigmoid = 1, tanh = 1.6666666666666667, relu = 1.4142135623730951,
        leaky_relu = 1.4141428569978354, selu = 0.75,
      } do
        near(gain, init.calculate_gain(name), 1e-15)
      end
      near(1.3867504905630728, init.calculate_gain("leaky_relu", 0.2), 1e-15)
    end)

    it("scales by fans", function()
      -- sizes (out 300, in 50, 2, 3): fan in 300, fan out 1800
      local x = parameter(300, 50, 2, 3)
      local both = math.sqrt(2 / 2100)
      for _, case in ipairs {
        {"xavier", {}, both}, {"xavier", {3}, 3 * both},
        {"kaiming", {}, math.sqrt(2 / 300)}, {"kaiming", {math.sqrt(5)}, math.sqrt(1 / 3 / 300)},
        {"kaiming", {0, "fan_out"}, math.sqrt(2 / 1800)}, {"kaiming", {nil, nil, "tanh"}, 5 / 3 / math.sqrt(300)},
      } do
        local name, arguments, deviation = unpack(case)
        init[name .. "_uniform_"](x, unpack(arguments, 1, 3))
        local mean, std, least, largest = measures(x)
        local bound = math.sqrt(3) * deviation
        near(0, mean, 0.02 * deviation)
        near(deviation, std, 0.02 * deviation)
        near(-bound, least, 1e-3 * bound)
        near(bound, largest, 1e-3 * bound)
        init[name .. "_normal_"](x, unpack(arguments, 1, 3))
        mean, std, least, largest = measures(x)
        near(0, mean, 0.02 * deviation)
        near(deviation, std, 0.02 * deviation)
        assert.is_true(largest > 3 * deviation and least < -3 * deviation)
      end
    end)

    it("draws truncated normal numbers by their distribution function", function()
      for _, case in ipairs {
        {0, 1, -2, 2}, {1, 0.5, 0, 10}, {0, 0.02, -2, 2}, {-1, 2, -0.5, 3}, {0, 1, 1, math.huge},
      } do
        local mean, std, low, high = unpack(case)
        local x = parameter(20000)
        fp8.manual_seed(2)
        local unit = fp8.rand(20000, {device = device})
        fp8.manual_seed(2)
        init.trunc_normal_(x, mean, std, low, high)
        local least, largest = x:min():item(), x:max():item()
        assert.is_true(least >= low and largest <= high)
        local function distribution(values) return ((values - mean) / (std * math.sqrt(2))):erf() end
        local first = distribution(fp8.tensor({low}, {device = device}))
        local last = distribution(fp8.tensor({high}, {device = device}))
        local found = (distribution(x:detach()) - first) / (last - first)
        assert.is_true((found - unit):abs():max():item() < 2e-6)
      end
      local x = parameter(40000)
      local mean, std = measures(init.trunc_normal_(x))
      near(0, mean, 0.015)
      near(0.8796257, std, 0.01)
      near(1, init.trunc_normal_(parameter(3), 0, 1, 1, 1.0000001):mean():item(), 1e-6)
    end)

    it("takes what has no elements, and of no dimensions", function()
      for _, name in ipairs {"xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_"} do
        assert.same({0, 0}, init[name](parameter(0, 0)).shape)
        assert.same({3, 0}, init[name](parameter(3, 0)).shape)
      end
      for _, name in ipairs {"uniform_", "normal_", "trunc_normal_", "zeros_", "ones_"} do
        assert.same({0}, init[name](parameter(0)).shape)
        assert.same({}, init[name](parameter()).shape)
      end
    end)

    it("has a layer quantize its new weight", function()
      local layer = fp8.LinearMixed(16, 8, {device = device, bias = false})
      local x = fp8.randn(3, 16, {device = device})
      assert.is_true(layer(x):abs():sum():item() > 0)
      init.zeros_(layer.weight)
      assert.equal(0, layer(x):abs():sum():item())
    end)

    it("says what is wrong", function()
      local x, square = parameter(3), parameter(2, 2)
      fails("xavier_uniform_: a tensor of at least 2 dimensions is needed, got shape (3)", init.xavier_uniform_, x)
      fails("kaiming_normal_: the mode must be fan_in or fan_out, got in", init.kaiming_normal_, square, 0, "in")
      fails("the nonlinearity must be linear, sigmoid,", init.kaiming_uniform_, square, 0, "fan_in", "swish")
      fails("calculate_gain: relu has no slope, got 0.2", init.kaiming_uniform_, square, 0.2, nil, "relu")
      fails("eye_: argument 1: a tensor of 2 dimensions is needed, got shape (3)", init.eye_, x)
      fails("constant_: the value must be a number, got nil", init.constant_, x)
      fails("zeros_: the tensor must be f32, f16 or bf16, got i64", init.zeros_, fp8.zeros(2, {dtype = "i64"}))
      fails("ones_: argument 1: tensor expected, got nil", init.ones_)
      fails("trunc_normal_: the lower bound must be below the upper one, got 2 and 1", init.trunc_normal_, x, 0, 1, 2,
        1)
      fails("trunc_normal_: a finite mean and standard deviation above 0", init.trunc_normal_, x, 0, 0)
      fails("normal_: std must be at least 0", init.normal_, x, 0, -1)
      fails("xavier_normal_: the gain must be a finite number of at least 0", init.xavier_normal_, square, -1)
    end)
  end)
end)

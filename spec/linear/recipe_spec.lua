-- Recipes: every format, scale and rounding of a linear layer against the slow reference.
local fp8 = require "fp8"
local recipe_rules = require "spec.support.recipe_rules"
local support = require "spec.support"
local check_linear = require "spec.support.linear_check"

local fails = support.fails

local e4m3, e5m2, map_of = recipe_rules.e4m3, recipe_rules.e5m2, recipe_rules.map_of
local recipe_of, rules_of, to_nearest = recipe_rules.recipe_of, recipe_rules.rules_of, recipe_rules.to_nearest

local function rules_with(format, grad_format, input, weight, grad_output, weight_grad)
  return {
    input = {format, input}, weight = {format, weight}, grad_output = {grad_format, grad_output},
    weight_grad = weight_grad,
  }
end

support.each_device(function(device)
  it("takes an empty batch with every recipe on " .. device, function()
    for name, recipe in support.sorted_pairs(fp8.recipes) do
      for _, dtype in ipairs {"f32", "bf16"} do
        local layer = fp8.Linear(32, 16, {recipe = recipe, device = device, dtype = dtype})
        local x = fp8.zeros(0, 32, {device = device, dtype = dtype}):requires_grad_()
        local y = layer(x)
        assert.same({0, 16}, y.shape, name)
        y:backward(fp8.zeros(0, 16, {device = device, dtype = dtype}))
        assert.same({0, 32}, x.grad.shape)
        support.equal(layer.weight.grad, fp8.zeros(16, 32))
        support.equal(layer.bias.grad, fp8.zeros(16))
      end
    end
  end)

  it("shows what is not finite, and keeps what is, with every recipe on " .. device, function()
    for name, recipe in support.sorted_pairs(fp8.recipes) do
      local layer = fp8.Linear(64, 32, {recipe = recipe, device = device})
      local function run(x)
        layer:zero_grad()
        x = x:to(device):requires_grad_()
        local y = layer(x)
        y:backward(fp8.ones(y.shape, {device = device}))
        return y:detach(), layer.weight.grad
      end
      local x = fp8.randn(40, 64)
      x[3]:narrow(1, 20, 1):fill_(0 / 0)
      local y, dweight = run(x)
      assert.is_true(y[3]:isnan():all():item() == 1, name)
      assert.is_true(dweight:isnan():any():item() == 1, name)
      for _, size in ipairs {1e-42, 1e-30, 1e30} do
        layer = fp8.Linear(64, 32, {recipe = recipe, device = device})
        y, dweight = run(fp8.rand(40, 64) * size)
        assert.is_true(y:isfinite():all():item() == 1, ("%s of %g"):format(name, size))
        assert.is_true(dweight:isfinite():all():item() == 1, ("%s of %g"):format(name, size))
      end
      layer.weight:detach():zero_()
      support.equal(layer(fp8.randn(7, 64, {device = device})):detach(), layer.bias:detach():view(1, 32):expand(7, 32))
    end
  end)

  before_each(function() fp8.manual_seed(2) end)

  describe("A recipe", function()
    local scales = {
      {"tensor", "tensor", "tensor"}, {"row", "row", "row"}, {"block", "block", "block"}, {64, 128, 64},
      {"row", "tensor", "row"}, {32, "tensor", 32}, {7, 1, 1000},
    }
    for _, formats in ipairs {{e4m3, e5m2}, {"e4m3", "e5m2"}, {"e5m2", "e4m3"}, {e4m3, "e5m2"}} do
      for _, weight_grad in ipairs {"full", "quantized"} do
        for _, scale in ipairs(scales) do
          local function name(format) return type(format) == "table" and "map" or format end
          local text = "computes %s, %s by %s, %s, %s with a %s weight gradient"
          it(text:format(name(formats[1]), name(formats[2]), scale[1], scale[2], scale[3], weight_grad), function()
            local rules = rules_with(formats[1], formats[2], scale[1], scale[2], scale[3], weight_grad)
            for _, dtype in ipairs {"f32", "bf16"} do
              local layer = fp8.Linear(48, 32, {dtype = dtype, device = device, recipe = recipe_of(rules)})
              check_linear(layer, rules, {device = device, dtype = dtype, shape = {16}, inputs = 48, outputs = 32})
            end
          end)
        end
      end
    end

    for name, recipe in support.sorted_pairs(fp8.recipes) do
      if name ~= "delayed" then
        it("computes what it says: " .. name, function()
          for _, sizes in ipairs {{{150}, 160, 144}, {{144}, 160, 144}, {{3, 7}, 33, 70}, {{1}, 5, 1}} do
            local shape, inputs, outputs = unpack(sizes)
            for _, dtype in ipairs(inputs > 100 and {"bf16"} or {"f32", "f16"}) do
              local layer = fp8.Linear(inputs, outputs, {dtype = dtype, device = device, recipe = to_nearest(recipe)})
              local rules = rules_of(layer.recipe)
              check_linear(layer, rules,
                {device = device, dtype = dtype, shape = shape, inputs = inputs, outputs = outputs})
            end
          end
        end)
      end
    end

    it("may have other operands in each product, of any kind", function()
      local random = support.random(3)
      local function pick(list) return list[random(#list)] end
      local function operand()
        local format = pick {"e4m3", "e5m2", e4m3, e5m2}
        local rounding = pick {"none", "power_of_two", type(format) == "string" and "mx" or nil}
        if random(6) == 1 then return "full" end
        local tile = {random(9), random(9)}
        local scale = pick {"tensor", "tensor", "row", "column", "column", "block", 7, tile, {1, 16}}
        return {format, scale, rounding}
      end
      for _ = 1, 60 do
        local rules = {input = operand(), weight = operand(), grad_output = operand()}
        rules.forward = pick {"full", false, false} or nil
        if random(4) == 1 then
          rules.input_grad = "full"
        elseif random(2) == 1 then
          rules.input_grad = {grad_output = pick {operand(), false} or nil, weight = pick {operand(), false} or nil}
        end
        local both = {grad_output = operand(), input = operand()}
        rules.weight_grad = pick {"full", "quantized", {input = operand()}, both}
        local layer = fp8.Linear(32, 16, {device = device, recipe = recipe_of(rules)})
        local setup = {device = device, dtype = pick {"f32", "bf16"}, shape = {random(20)}, inputs = 32, outputs = 16}
        check_linear(layer, rules, setup)
        layer:zero_grad()
        check_linear(layer, rules, setup) -- with the weight as it was quantized before
      end
    end)

    it("may draw the signs of its Hadamard transforms, for both operands of a product", function()
      local function operand(scale) return {format = "e4m3", scale = scale, hadamard = 32, signs = "step"} end
      local layer = fp8.Linear(96, 64, {device = device, recipe = {
        input = operand "row", weight = operand "row", grad_output = operand "row",
        input_grad = {weight = operand "column"},
        weight_grad = {grad_output = operand "column", input = operand "column"},
      }})
      local plain = fp8.Linear(96, 64, {device = device})
      plain:load_state_dict(layer:state_dict())
      local x, dy = fp8.randn(70, 96, {device = device}), fp8.randn(70, 64, {device = device})
      local function run(linear)
        local leaf = x:clone():requires_grad_()
        linear:zero_grad()
        local y = linear(leaf)
        linear(leaf) -- another step between a pass forward and its pass back
        y:backward(dy)
        return {y:detach(), leaf.grad, linear.weight.grad, linear.bias.grad}
      end
      local first, second, expected = run(layer), run(layer), run(plain)
      for i = 1, 4 do
        assert.is_true(support.error(first[i], expected[i]) < 0.06)
        assert.equal(i == 4, fp8.equal(first[i], second[i]))
      end
    end)

    it("may have a function of the script in place of a format", function()
      local seen = {}
      local function rounded(x, name)
        seen[name] = (seen[name] or 0) + 1
        return (x * 4):round() / 4
      end
      local function rounded_number(value) return ((value * 4 + 1.5 * 2 ^ 52) - 1.5 * 2 ^ 52) / 4 end
      local by_function, rule = {quantize = rounded}, {quantize = rounded_number}
      local recipe = {input = by_function, weight = by_function, grad_output = by_function, weight_grad = "quantized"}
      local rules = {input = rule, weight = rule, grad_output = rule, weight_grad = "quantized"}
      local setup = {device = device, dtype = "f32", shape = {3, 5}, inputs = 24, outputs = 16}
      check_linear(fp8.Linear(24, 16, {device = device, recipe = recipe}), rules, setup)
      assert.is_true(seen.input >= 1 and seen.weight >= 1 and seen.grad_output == 1)
      recipe.input, rules.input = {format = "e4m3", scale = "tensor"}, {"e4m3", "tensor"}
      recipe.weight_grad = {input = "full"}
      rules.weight_grad = {input = "full"}
      check_linear(fp8.Linear(24, 16, {device = device, recipe = recipe}), rules, setup)
    end)

    it("holds a script's function to the shape and the device", function()
      local function gradient_of(f)
        local recipe = fp8.recipe("global", {input = {quantize = f}})
        local layer = fp8.Linear(8, 4, {device = device, recipe = recipe})
        local x = fp8.randn(2, 8, {device = device, requires_grad = true})
        layer(x):sum():backward()
        return x.grad
      end
      assert.same({2, 8}, gradient_of(function(x) return x end).shape)
      fails("recipe: quantize of input must return a tensor, got nil", gradient_of, function() end)
      fails("of shape (2, 8)", gradient_of, function(x) return x:t() end)
      fails("on purpose", gradient_of, function() error "on purpose" end)
    end)

    it("rounds each operand in its own way", function()
      local recipe = fp8.recipe("global_native", {grad_output = {rounding = "stochastic"}})
      local layer = fp8.Linear(64, 64, {device = device, bias = false, recipe = recipe})
      local x, dy = fp8.randn(16, 64, {device = device}):requires_grad_(), fp8.randn(16, 64, {device = device})
      local function run(seed)
        fp8.manual_seed(seed)
        x.grad = nil
        local y = layer(x)
        y:backward(dy)
        return support.flat(y:detach()), support.flat(x.grad)
      end
      local y, dx = run(1)
      local again, other_dx = run(2)
      assert.same(y, again)
      assert.is_not.same(dx, other_dx)
      recipe = fp8.recipe("global_native", {rounding = "stochastic", input = {rounding = "nearest"},
        weight = {rounding = "nearest"}})
      layer = fp8.Linear(64, 64, {device = device, bias = false, recipe = recipe})
      y = run(1)
      assert.same(y, (run(2)))
    end)

    it("adds up fast or accurately in each product", function()
      for _, forward in ipairs {"fast", "accurate"} do
        for _, backward in ipairs {"fast", "accurate"} do
          local recipe = fp8.recipe("global_native", {forward = {accumulate = forward},
            input_grad = {accumulate = backward}, weight_grad = {accumulate = backward}})
          local rules = rules_with("e4m3", "e5m2", "tensor", "tensor", "tensor", "quantized")
          local layer = fp8.Linear(256, 64, {dtype = "bf16", device = device, recipe = recipe})
          check_linear(layer, rules, {device = device, dtype = "bf16", shape = {32}, inputs = 256, outputs = 64})
        end
      end
    end)

    it("is named by native = true", function()
      local mixed = rules_with("e4m3", "e5m2", "row", "tensor", "row", "full")
      local global = rules_with("e4m3", "e5m2", "tensor", "tensor", "tensor", "quantized")
      for _, dtype in ipairs {"f32", "f16", "bf16"} do
        for name, rules in support.sorted_pairs {LinearMixed = mixed, LinearGlobal = global} do
          local layer = fp8[name](80, 48, {native = true, dtype = dtype, device = device})
          check_linear(layer, rules, {device = device, dtype = dtype, shape = {32}, inputs = 80, outputs = 48})
          layer = fp8[name](17, 9, {native = true, device = device, bias = false})
          check_linear(layer, rules, {device = device, dtype = dtype, shape = {2, 3}, inputs = 17, outputs = 9})
        end
      end
    end)

    it("is changed field by field by options", function()
      local changes = {device = device, grad_output = {scale = "row"}, weight = {format = "e5m2"}}
      local layer = fp8.LinearMixed(40, 24, changes)
      local rules = rules_with(e4m3, e5m2, "block", "tensor", "row", "full")
      rules.input[2], rules.weight[1] = 64, "e5m2"
      check_linear(layer, rules, {device = device, dtype = "f32", shape = {5}, inputs = 40, outputs = 24})
      assert.equal("block", fp8.recipes.mixed.grad_output.scale)
    end)

    it("makes broken runs show: a NaN or an infinity spreads over its block", function()
      local layer = fp8.LinearMixed(64, 4, {device = device})
      for _, bad in ipairs {0 / 0, math.huge, -math.huge} do
        local x = fp8.ones(3, 64, {device = device})
        x[2]:narrow(1, 5, 1):fill_(bad)
        local y = support.flat(layer(x))
        for i = 1, 12 do assert.equal(i > 4 and i <= 8, y[i] ~= y[i]) end
        local all = support.flat(fp8.LinearGlobal(64, 4, {device = device})(x))
        for i = 1, 12 do assert.is_true(all[i] ~= all[i]) end
      end
    end)
  end)

  describe("Stochastic rounding", function()
    local function layer_of(format)
      local layer = fp8.Linear(64, 64, {
        device = device, bias = false,
        recipe = {
          input = {format = format, scale = "row"}, weight = {format = "e4m3", scale = "tensor"},
          grad_output = {format = "e5m2", scale = "row"}, rounding = "stochastic",
        },
      })
      local identity = fp8.zeros(64, 64)
      for i = 1, 64 do identity[i]:narrow(1, i, 1):fill_(1) end
      return layer:load_state_dict {weight = identity}
    end

    for name, format in support.sorted_pairs {map = map_of[e4m3], e4m3 = "e4m3", e5m2 = "e5m2"} do
      it("is right on average and gives neighbours, for " .. name, function()
        local layer = layer_of(format)
        local x = fp8.rand(1, 64, {device = device}) * 2 - 1
        local count = 2000
        local y = layer(x:expand(count, 64)):detach()
        local mean, low, high = y:mean(1):totable(), y:min(1):totable(), y:max(1):totable()
        for i, value in ipairs(support.flat(x)) do
          assert.is_true(low[i] <= value + 1e-6 and value <= high[i] + 1e-6)
          local step = high[i] - low[i]
          assert.is_true(step <= math.abs(value) / (format == "e5m2" and 4 or 8) * 1.001 + 0.005)
          -- Five standard deviations of the mean of values that are `step` apart.
          assert.near(value, mean[i], 5 * step / 2 / math.sqrt(count) + 1e-6)
        end
      end)
    end

    it("repeats itself for a seed, and not otherwise", function()
      local layer = layer_of "e4m3"
      local x = fp8.randn(16, 64, {device = device})
      fp8.manual_seed(5)
      local first, second = layer(x):totable(), layer(x):totable()
      fp8.manual_seed(5)
      assert.same(first, layer(x):totable())
      assert.is_not.same(first, second)
    end)

    it("rounds the gradient too", function()
      local layer = layer_of "e4m3"
      local function gradient()
        local x = fp8.zeros(16, 64, {device = device, requires_grad = true})
        fp8.manual_seed(1)
        local dy = fp8.randn(16, 64, {device = device})
        local y = layer(x)
        fp8.manual_seed(6)
        y:backward(dy)
        return x.grad, dy
      end
      local dx, dy = gradient()
      assert.same(dx:totable(), (gradient()):totable())
      local found = support.error(dx, dy)
      assert.is_true(found > 0.02 and found < 0.25, tostring(found))
    end)
  end)
end)

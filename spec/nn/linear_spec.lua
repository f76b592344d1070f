-- Linear layers as modules: how they start, and what they refuse. linear/ has what they compute.
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails

support.each_device(function(device)
  local on = {device = device}

  describe("A linear layer", function()
    it("starts uniform in ±1 / √in_features", function()
      for _, name in ipairs {"Linear", "LinearMixed", "LinearGlobal"} do
        for _, features in ipairs {1, 50, 400} do
          fp8.manual_seed(4)
          local layer = fp8[name](features, 300, on)
          local bound = 1 / math.sqrt(features)
          for _, parameter in ipairs {layer.weight:detach(), layer.bias:detach()} do
            local values = support.flat(parameter)
            local sum, squares, low, high = 0, 0, math.huge, -math.huge
            for _, value in ipairs(values) do
              sum, squares = sum + value, squares + value ^ 2
              low, high = math.min(low, value), math.max(high, value)
            end
            assert.is_true(low >= -bound and high <= bound)
            assert.is_true(low < -0.95 * bound and high > 0.95 * bound)
            -- Five standard deviations of the mean, and of the mean square, of uniform values.
            assert.near(0, sum / #values, 5 * bound / math.sqrt(3 * #values))
            assert.near(bound ^ 2 / 3, squares / #values, 5 * bound ^ 2 * math.sqrt(4 / 45 / #values))
          end
        end
      end
    end)

    it("starts the same for a seed, in every class and on every device", function()
      local start
      for _, name in ipairs {"Linear", "LinearMixed", "LinearGlobal"} do
        for _, place in ipairs {"cpu", device} do
          fp8.manual_seed(11)
          local layer = fp8[name](20, 10, {device = place})
          start = start or {layer.weight:totable(), layer.bias:totable()}
          assert.same(start, {layer.weight:totable(), layer.bias:totable()})
        end
      end
      assert.is_not.same(start[1], fp8.Linear(20, 10, on).weight:totable())
    end)

    it("has the fields and text of its sizes", function()
      local layer = fp8.LinearMixed(6, 3, on)
      assert.equal(6, layer.in_features)
      assert.equal(3, layer.out_features)
      assert.same({3, 6}, layer.weight.shape)
      assert.same({3}, layer.bias.shape)
      assert.is_true(layer.weight.requires_grad and layer.weight.is_leaf)
      assert.is_truthy(tostring(layer):find("LinearMixed(6, 3", 1, true))
    end)

    it("refuses wrong sizes and options", function()
      for _, name in ipairs {"Linear", "LinearMixed", "LinearGlobal"} do
        for _, size in ipairs {0, -1, 1.5, 0 / 0, 2 ^ 60, "4", {}} do
          fails(name .. ": in_features", fp8[name], size, 3)
          fails(name .. ": out_features", fp8[name], 3, size)
        end
        fails(name .. ": in_features", fp8[name])
        fails(name .. ": ", fp8[name], 3, 3, 3)
        fails("f64", fp8[name], 3, 3, {dtype = "f64"})
        fails("gpu", fp8[name], 3, 3, {device = "gpu"})
        fails("out of memory", fp8[name], 2 ^ 20, 2 ^ 25, on)
      end
    end)

    it("refuses wrong inputs and names both shapes", function()
      for _, name in ipairs {"Linear", "LinearMixed", "LinearGlobal"} do
        local layer = fp8[name](4, 3, on)
        fails("(2, 5)", layer, fp8.zeros(2, 5, on))
        fails("(3, 4)", layer, fp8.zeros(2, 5, on))
        fails("1 to 4 dimensions", layer, fp8.zeros(1, 1, 1, 2, 4, on))
        fails("1 to 4 dimensions", layer, fp8.tensor(1, on))
        fails("i64", layer, fp8.zeros(2, 4, {device = device, dtype = "i64"}))
        fails("e4m3", layer, fp8.zeros(2, 4, {device = device, dtype = "e4m3"}))
        fails("must be a tensor, got string", layer, "x")
        fails("must be a tensor, got nil", layer)
        layer:to "bf16"
        fails("bf16", layer, fp8.zeros(2, 4, on))
      end
    end)
  end)
end)

-- Dropout: masks, that backward draws them again, and that all devices draw the same ones.
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails

support.each_device(function(device)
  local on = {device = device}

  describe("Dropout", function()
    it("keeps what a uniform draw from the same seed says", function()
      for _, dtype in ipairs {"f32", "f16", "bf16"} do
        for _, count in ipairs {0, 1, 3, 8, 515, 2048} do
          for _, probability in ipairs {0.1, 0.5, 0.9} do
            fp8.manual_seed(count + 7)
            local uniform = support.flat(fp8.rand(count))
            local x = (fp8.randn(count, on) + 3):to(dtype)
            fp8.manual_seed(count + 7)
            local y = fp8.dropout(x, probability)
            local values, kept, expected = support.flat(x), 0, {}
            for i = 1, count do
              kept = kept + (uniform[i] >= probability and 1 or 0)
              expected[i] = uniform[i] >= probability and values[i] / (1 - probability) or 0
            end
            assert.equal(dtype, y.dtype)
            if count > 0 then support.close(y, fp8.tensor(expected)) end
            if count > 2000 then assert.near(1 - probability, kept / count, 0.05) end
          end
        end
      end
    end)

    it("draws the same mask on every device, and another one each time", function()
      local x = fp8.ones(1000)
      fp8.manual_seed(3)
      local first, second = fp8.dropout(x, 0.3), fp8.dropout(x, 0.3)
      fp8.manual_seed(3)
      support.equal(fp8.dropout(x:to(device), 0.3), first)
      support.equal(fp8.dropout(x:to(device), 0.3), second)
      assert.is_not.same(first:totable(), second:totable())
    end)

    it("gives the gradient the same mask", function()
      for _, dtype in ipairs {"f32", "bf16"} do
        local x = fp8.ones(40, 5, {device = device, dtype = dtype}):requires_grad_()
        local y = fp8.dropout(x, 0.4)
        fp8.randn(5, on) -- draws in between don't matter
        y:backward(fp8.full({40, 5}, 2, {device = device, dtype = dtype}))
        support.equal(x.grad, y:detach() * 2)
      end
    end)

    it("does nothing for a probability of 0, and keeps NaN visible", function()
      local x = fp8.randn(4, on)
      assert.equal(x, fp8.dropout(x, 0))
      local y = fp8.dropout(fp8.full({100}, 0 / 0, on), 0.5):totable()
      for i = 1, 100 do assert.is_true(y[i] ~= y[i]) end
    end)

    it("takes any strides", function()
      local x = fp8.randn(6, 5, on)
      fp8.manual_seed(5)
      local expected = fp8.dropout(x:t():contiguous(), 0.5)
      fp8.manual_seed(5)
      support.equal(fp8.dropout(x:t(), 0.5), expected)
    end)

    it("is for training, as a module", function()
      local layer, x = fp8.nn.Dropout(0.5), fp8.ones(64, on)
      assert.is_true(layer(x):eq(0):sum():item() > 10)
      layer:eval()
      assert.equal(x, layer(x))
      assert.equal("Dropout(0.5)", tostring(layer))
    end)

    it("refuses what is no probability", function()
      local x = fp8.ones(3, on)
      for _, wrong in ipairs {1, -0.1, 2, 0 / 0, math.huge} do
        fails("dropout: the probability must be at least 0 and below 1", fp8.dropout, x, wrong)
        fails("Dropout: the probability must be", fp8.nn.Dropout, wrong)
      end
      fails("Dropout: the probability must be", fp8.nn.Dropout, "0.5")
      fails("dropout: argument 2: number expected, got string", fp8.dropout, x, "a")
      fails("dropout: dtype must be f32, f16 or bf16, got i64", fp8.dropout, fp8.randint(0, 9, {4}, on), 0.5)
      fails("dropout: argument 1: tensor expected, got nil", fp8.dropout, nil, 0)
    end)
  end)
end)

-- clip_grad_norm: norms over many gradients, and what it scales.
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails

--- The norm over the gradients of a list, in double.
local function norm_of(list)
  local sum = 0
  for _, parameter in ipairs(list) do
    for _, value in ipairs(parameter.grad and support.flat(parameter.grad) or {}) do sum = sum + value ^ 2 end
  end
  return math.sqrt(sum)
end

support.each_device(function(device)
  it("only measures on " .. device .. " if the largest norm is infinite", function()
    local x = fp8.zeros(3, {device = device}):requires_grad_()
    x.grad = fp8.tensor({1, 3e38, 3e38}, {device = device})
    assert.equal(math.huge, fp8.optim.clip_grad_norm({x}, math.huge):item())
    support.equal(x.grad, fp8.tensor {1, 3e38, 3e38})
  end)

  local on = {device = device}

  local function parameter(grad)
    local x = fp8.zeros(grad.shape, {device = device, dtype = grad.dtype, requires_grad = true})
    x.grad = grad
    return x
  end

  describe("clip_grad_norm", function()
    it("scales down to the largest norm, over tensors of any size, dtype and place", function()
      fp8.manual_seed(21)
      for _, dtype in ipairs {"f32", "f16", "bf16"} do
        local list = {}
        for i = 1, 130 do
          local size = i == 70 and 50021 or i == 71 and 16384 or (i * 53) % 97
          local grad = fp8.randn(size + 3, on):to(dtype)
          list[i] = parameter(grad:narrow(1, i % 4 + 1, size))
        end
        list[131] = fp8.zeros(3, {device = device, requires_grad = true})
        local before, expected = {}, norm_of(list)
        for i = 1, 130 do before[i] = list[i].grad:to("f32"):clone() end
        local norm = fp8.optim.clip_grad_norm(list, 2)
        assert.same({}, norm.shape)
        assert.equal("f32", norm.dtype)
        assert.near(expected, norm:item(), 1e-6 * expected)
        local factor = 2 / (expected + 1e-6)
        for i = 1, 130 do
          support.close(list[i].grad, before[i] * factor, support.tolerance[dtype])
        end
        assert.near(2, fp8.optim.clip_grad_norm(list, math.huge):item(), 2 * support.tolerance[dtype])
        assert.is_nil(list[131].grad)
      end
    end)

    it("leaves smaller gradients as they are", function()
      local x = parameter(fp8.tensor({3, -4}, on))
      assert.equal(5, fp8.optim.clip_grad_norm({x}, 6):item())
      assert.equal(5, fp8.optim.clip_grad_norm({x}, math.huge):item())
      assert.same({3, -4}, x.grad:totable())
      assert.equal(5, fp8.optim.clip_grad_norm({x}, 0):item())
      assert.same({0, 0}, x.grad:totable())
      assert.equal(0, fp8.optim.clip_grad_norm({x}, 1):item())
    end)

    it("takes a module, gradients of any strides, and parameters without one", function()
      local layer = fp8.Linear(2, 2, on)
      assert.equal(0, fp8.optim.clip_grad_norm(layer, 1):item())
      layer.weight.grad = fp8.tensor({{0, 3}, {4, 0}}, on):t()
      assert.equal(5, fp8.optim.clip_grad_norm(layer, 2.5):item())
      support.close(layer.weight.grad, fp8.tensor {{0, 2}, {1.5, 0}}, 1e-6)
    end)

    it("squares no gradient beyond float32, nor to nothing", function()
      for _, size in ipairs {3e38, 7e30, 2e19, 1e-21, 4e-26, 1e-38} do
        for _, dtype in ipairs {"f32", "bf16"} do
          for _, count in ipairs {3, 9000} do
            local values = {}
            for i = 1, count do values[i] = size * math.cos(i) / math.sqrt(count) end
            local x = parameter(fp8.tensor(values, on):to(dtype))
            local y = parameter(fp8.zeros(10000, on))
            local exact, before = norm_of {x, y}, support.flat(x.grad)
            assert.near(1, fp8.optim.clip_grad_norm({y, x}, math.huge):item() / exact, 1e-6)
            for _, largest in ipairs {0.5, 1e-6} do
              x.grad = fp8.tensor(before, on):to(dtype)
              fp8.optim.clip_grad_norm({y, x}, largest)
              local factor, after = math.min(1, largest / (exact + 1e-6)), support.flat(x.grad)
              local limit, wrong = dtype == "f32" and 1e-6 or 2 ^ -8, 0
              for i = 1, count do
                local right = before[i] * factor
                if not (math.abs(after[i] - right) <= math.abs(right) * limit + 1e-40) then wrong = wrong + 1 end
              end
              assert.equal(0, wrong)
            end
          end
        end
      end
    end)

    it("scales gradients whose norm is beyond float32", function()
      local values = {}
      for i = 1, 30 do values[i] = 3.4e38 * math.sin(i) end
      local x = parameter(fp8.tensor(values, on))
      local norm = norm_of {x}
      fp8.optim.clip_grad_norm({x}, 3)
      for i, value in ipairs(support.flat(x.grad)) do assert.near(values[i] / norm * 3, value, 1e-6) end
    end)

    it("shows a NaN and an infinity", function()
      for _, wrong in ipairs {0 / 0, math.huge} do
        local x, y = parameter(fp8.full({20000}, 1, on)), parameter(fp8.ones(3, on))
        x.grad:narrow(1, 9000, 1):fill_(wrong)
        local norm = fp8.optim.clip_grad_norm({y, x}, 1):item()
        assert.is_true(norm ~= norm or norm == wrong)
        local value = x.grad[9000]:item()
        assert.is_true(value ~= value)
      end
    end)

    it("is the same in every run", function()
      local grad = fp8.randn(300000, on)
      local first
      for _ = 1, 3 do
        local norm = fp8.optim.clip_grad_norm({parameter(grad:clone())}, 1):item()
        first = first or norm
        assert.equal(first, norm)
      end
    end)

    it("of some gradients may scale others, which is how ranks clip what each has a part of", function()
      local clip = require("fp8.core").clip_grad_norm
      local measured, scaled = fp8.tensor({3, 4}, on), fp8.tensor({10, 20, 30}, on)
      assert.equal(5, clip({measured, scaled, scaled:clone()}, 1, 1):item())
      assert.same({3, 4}, measured:totable())
      support.close(scaled, fp8.tensor {2, 4, 6}, 1e-6)
      assert.equal(5, clip({measured, scaled}, 6, 1):item())
      support.close(scaled, fp8.tensor {2, 4, 6}, 1e-6)
      fails("a number from 0 to 2", clip, {measured, scaled}, 1, 3)
      fails("at least one gradient", clip, {measured, scaled}, 1, 0)
      clip({fp8.tensor({0 / 0}, on), scaled}, 1, 1)
      assert.is_true(scaled:isnan():all():item() ~= 0)
    end)

    it("makes a derivative that is still to be taken notice the scaling", function()
      local x = parameter(fp8.tensor({3, 4}, on))
      local w = fp8.ones(2, {device = device, requires_grad = true})
      local loss = (w * x.grad):sum()
      fp8.optim.clip_grad_norm({x}, 1)
      fails("changed in place", function() loss:backward() end)
    end)

    it("refuses wrong arguments, and changes nothing then", function()
      local clip = fp8.optim.clip_grad_norm
      local x = parameter(fp8.tensor({3, 4}, on))
      for _, wrong in ipairs {-1, 0 / 0, "1", {}} do fails("clip_grad_norm: the largest norm", clip, {x}, wrong) end
      fails("clip_grad_norm: the largest norm", clip, {x})
      fails("clip_grad_norm: a module or a list", clip, 3, 1)
      fails("clip_grad_norm: a module or a list", clip, {}, 1)
      fails("clip_grad_norm: parameter 2 must be a tensor, got number", clip, {x, 3}, 1)
      fails("share memory", clip, {x, x}, 1)
      local expanded = fp8.zeros(3, {device = device, requires_grad = true})
      expanded.grad = fp8.ones(1, on):expand(3)
      fails("can't write to an expanded tensor", clip, {x, expanded}, 1)
      assert.same({3, 4}, x.grad:totable())
    end)
  end)
end)

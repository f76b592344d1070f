-- Steps of many parameters at once: groups, odd shapes and places in memory, master weights.
local core = require "fp8.core"
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails

local kinds = {
  {"SGD", {lr = 0.1, weight_decay = 0.1}}, {"SGD", {lr = 0.1, momentum = 0.9, nesterov = true}},
  {"AdamW", {lr = 0.01}}, {"StableAdamW", {lr = 0.01}}, {"Adam", {lr = 0.01, weight_decay = 0.1}},
  {"Lion", {lr = 0.01, weight_decay = 0.1}},
}

support.each_device(function(device)
  local on = {device = device}

  --- A parameter with these values, and a gradient.
  local function parameter(values, grad, dtype)
    local x = values:to(dtype or "f32"):clone():requires_grad_()
    x.grad = grad:to(dtype or "f32")
    return x
  end

  describe("A step", function()
    for _, kind in ipairs(kinds) do
      local name, settings = unpack(kind)

      it(("of 200 tensors of odd sizes is %s of each"):format(name), function()
        fp8.manual_seed(11)
        local together, alone, dtypes = {}, {}, {"f32", "bf16", "f16"}
        for i = 1, 200 do
          local size = i == 100 and 100003 or i == 150 and 8192 or (i * 37) % 211
          local x, grad = fp8.randn(size, on), fp8.randn(size, on) * (i % 7)
          together[i] = parameter(x, grad, dtypes[i % 3 + 1])
          alone[i] = parameter(x, grad, dtypes[i % 3 + 1])
        end
        local optimizer = fp8.optim[name](together, settings)
        for _ = 1, 2 do optimizer:step() end
        for i = 1, 200 do
          local own = fp8.optim[name]({alone[i]}, settings)
          for _ = 1, 2 do own:step() end
          support.equal(together[i]:detach(), alone[i]:detach())
        end
      end)

      it(("of views anywhere in memory is %s of tensors of their own"):format(name), function()
        fp8.manual_seed(12)
        for _, dtype in ipairs {"f32", "bf16"} do
          for _, length in ipairs {1, 3, 8, 1021} do
            local memory = fp8.randn(length + 9, on):to(dtype)
            local grads = fp8.randn(length + 9, on):to(dtype)
            local around = memory:clone()
            local view = memory:narrow(1, 4, length):requires_grad_()
            view.grad = grads:narrow(1, 2, length)
            local whole = parameter(view:detach(), view.grad, dtype)
            local first = fp8.optim[name]({view}, settings)
            local second = fp8.optim[name]({whole}, settings)
            for _ = 1, 2 do
              first:step()
              second:step()
            end
            support.equal(view:detach(), whole:detach())
            support.equal(memory:narrow(1, 1, 3), around:narrow(1, 1, 3))
            support.equal(memory:narrow(1, length + 4, 6), around:narrow(1, length + 4, 6))
          end
        end
      end)
    end

    it("takes gradients of any strides", function()
      local x = parameter(fp8.ones(2, 3, on), fp8.tensor({{1, 2}, {3, 4}, {5, 6}}, on):t())
      local y = fp8.ones(2, 3, {device = device, requires_grad = true})
      y.grad = fp8.tensor({7}, on):expand(2, 3)
      fp8.optim.SGD({x, y}, {lr = 1}):step()
      assert.same({{0, -2, -4}, {-1, -3, -5}}, x:totable())
      assert.same({{-6, -6, -6}, {-6, -6, -6}}, y:totable())
    end)

    it("takes parameters that are parts of one tensor, but none that overlap", function()
      local memory = fp8.zeros(6, on)
      local function part(start)
        local x = memory:narrow(1, start, 3):requires_grad_()
        x.grad = fp8.full({3}, start, on)
        return x
      end
      fp8.optim.SGD({part(4), part(1)}, {lr = 1}):step()
      assert.same({-1, -1, -1, -4, -4, -4}, memory:totable())
      local overlapping = fp8.optim.SGD({part(1), part(3)}, {lr = 1})
      fails("two of its tensors share memory", overlapping.step, overlapping)
      local own = part(1)
      own.grad = memory:narrow(1, 2, 3)
      local optimizer = fp8.optim.SGD({own})
      fails("two of its tensors share memory", optimizer.step, optimizer)
      assert.same({-1, -1, -1, -4, -4, -4}, memory:totable())
    end)

    it("changes nothing but parameters with a gradient, and counts their changes", function()
      local list = {}
      for i = 1, 5 do list[i] = fp8.full({i}, i, {device = device, requires_grad = true}) end
      local optimizer = fp8.optim.AdamW(list, {lr = 0.5, weight_decay = 0})
      local before = {}
      for step = 1, 3 do
        for i, x in ipairs(list) do
          before[i] = {x:detach():clone(), core.version(x), core.contents(x)}
          x.grad = (i + step) % 2 == 0 and fp8.ones(i, on) or nil
        end
        optimizer:step()
        for i, x in ipairs(list) do
          local changed = (i + step) % 2 == 0
          assert.equal(before[i][2] + (changed and 1 or 0), core.version(x))
          assert.equal(changed, before[i][3] ~= core.contents(x))
          -- Constant gradients: every one of its steps moves a parameter by lr, however many it has missed.
          support.close(x:detach(), before[i][1] - (changed and 0.5 or 0), 1e-6)
        end
      end
      assert.equal(2, optimizer.state[1].steps)
      assert.equal(1, optimizer.state[2].steps)
    end)

    it("lets a NaN in the gradient be seen", function()
      local broken = fp8.ones(5000, on)
      broken:narrow(1, 3, 1):fill_(0 / 0)
      for _, name in ipairs {"SGD", "AdamW", "StableAdamW"} do
        local x = parameter(fp8.ones(5000, on), broken)
        fp8.optim[name]({x}):step()
        local value = x:detach()[3]:item()
        assert.is_true(value ~= value)
      end
    end)
  end)

  describe("Groups", function()
    it("have settings of their own, and the optimizer's for the rest", function()
      local a, b, c = fp8.zeros(1, on), fp8.zeros(1, on), fp8.zeros(1, on)
      for _, x in ipairs {a, b, c} do x:requires_grad_().grad = fp8.ones(1, on) end
      local layer = fp8.nn.Module:extend("Layer")()
      layer.weight = c
      local optimizer = fp8.optim.SGD({
        {parameters = {a}}, {parameters = {}}, {parameters = {b}, lr = 0.5}, {parameters = layer, momentum = 0.5},
      }, {lr = 1})
      optimizer:step()
      assert.same({-1, -0.5, -1}, {a:item(), b:item(), c:item()})
      optimizer.lr = 2
      optimizer:step()
      assert.same({-3, -1, -4}, {a:item(), b:item(), c:item()})
      optimizer.groups[3].lr, optimizer.groups[1].lr = nil, 0
      optimizer:step()
      assert.same({-3, -3, -7.5}, {a:item(), b:item(), c:item()})
      assert.same({a, b, c}, optimizer.parameters)
    end)
  end)

  describe("Master weights", function()
    for _, dtype in ipairs {"bf16", "f16"} do
      it("add up updates too small for " .. dtype, function()
        local x = parameter(fp8.full({1000}, 1, on), fp8.full({1000}, 1, on), dtype)
        local plain = parameter(fp8.full({1000}, 1, on), fp8.full({1000}, 1, on), dtype)
        local single = parameter(fp8.full({1000}, 1, on), fp8.full({1000}, 1, on))
        local settings = {lr = 1e-4, weight_decay = 0}
        local reference = fp8.optim.AdamW({single}, settings)
        local without = fp8.optim.AdamW({plain}, settings)
        settings.master_weights = true
        local optimizer = fp8.optim.AdamW({x}, settings)
        for _ = 1, 50 do
          optimizer:step()
          without:step()
          reference:step()
        end
        support.equal(optimizer.state[1].master, single:detach())
        support.equal(x:detach(), single:detach():to(dtype))
        assert.equal(1, plain:detach()[1]:item())
        assert.is_true(x:detach()[1]:item() < 1)
      end)
    end

    it("are kept for 16-bit parameters only", function()
      local x, y = parameter(fp8.ones(3, on), fp8.ones(3, on)), parameter(fp8.ones(3, on), fp8.ones(3, on), "bf16")
      local optimizer = fp8.optim.SGD({x, y}, {master_weights = true})
      assert.is_nil(optimizer.state[1].master)
      assert.equal("f32", optimizer.state[2].master.dtype)
      local without = fp8.optim.SGD({{parameters = {y}, master_weights = false}}, {master_weights = true})
      assert.is_nil(without.state[1].master)
    end)

    it("follow changes that others make to the parameter, element by element", function()
      local x = parameter(fp8.ones(4, on), fp8.full({4}, 5e-4, on), "bf16")
      local optimizer = fp8.optim.SGD({x}, {lr = 1, master_weights = true})
      optimizer:step()
      fp8.no_grad(function() x:narrow(1, 2, 2):fill_(5) end)
      optimizer:step()
      support.close(optimizer.state[1].master, fp8.tensor {0.999, 4.9995, 4.9995, 0.999}, 1e-5)
      assert.same({1, 5, 5, 1}, x:totable())
    end)
  end)
end)

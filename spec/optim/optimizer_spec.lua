-- Optimizers against the formulas of PyTorch in plain Lua and double arithmetic.
local fp8 = require "fp8"
local reference = require "spec.support.reference"
local formulas = require "spec.support.reference.optim"
local support = require "spec.support"

local fails = support.fails

local cases = {
  {"SGD", {lr = 0.1}},
  {"SGD", {lr = 0.1, weight_decay = 0.05}},
  {"SGD", {lr = 0.05, momentum = 0.9}},
  {"SGD", {lr = 0.05, momentum = 0.9, dampening = 0.3, weight_decay = 0.01}},
  {"SGD", {lr = 0.05, momentum = 0.8, nesterov = true}},
  {"SGD", {lr = 0.05, momentum = 0.8, nesterov = true, weight_decay = 0.1}},
  {"AdamW", {lr = 0.01}},
  {"AdamW", {lr = 0.1, beta1 = 0.5, beta2 = 0.9, epsilon = 1e-3, weight_decay = 0.2}},
  {"AdamW", {lr = 0.1, weight_decay = 0}},
  {"Adam", {lr = 0.01}},
  {"Adam", {lr = 0.1, beta1 = 0.5, beta2 = 0.9, epsilon = 1e-3, weight_decay = 0.2}},
  {"Lion", {lr = 0.01}},
  {"Lion", {lr = 0.05, beta1 = 0.5, beta2 = 0.8, weight_decay = 0.2}},
  {"StableAdamW", {lr = 0.01}},
  {"StableAdamW", {lr = 0.1, beta1 = 0.5, beta2 = 0.999, epsilon = 0.3, weight_decay = 0.2}},
}

local function described(settings)
  local parts = {}
  for name, value in pairs(settings) do table.insert(parts, name .. " = " .. tostring(value)) end
  table.sort(parts)
  return table.concat(parts, ", ")
end

support.each_device(function(device)
  describe("An optimizer", function()
    local shapes = {{3, 4}, {5}, {}, {2, 0}}

    local function parameters(dtype) return support.random_parameters(shapes, dtype, device) end

    --- Gives every parameter the gradient of step number `step`, and returns them as lists.
    local function set_gradients(list, step)
      fp8.manual_seed(100 + step)
      local values = {}
      for i, parameter in ipairs(list) do
        parameter.grad = fp8.randn(parameter.shape, {device = device}):to(parameter.dtype)
        values[i] = support.flat(parameter.grad)
      end
      return values
    end

    for _, case in ipairs(cases) do
      local name, settings = unpack(case)
      local follow = formulas[name]
      for _, dtype in ipairs {"f32", "f16", "bf16"} do
        it(("%s{%s} follows the formulas in %s for 10 steps"):format(name, described(settings), dtype), function()
          local function rounded(x) return reference.round[dtype](reference.f32(x)) end
          local list = parameters(dtype)
          local optimizer = fp8.optim[name](list, settings)
          local expected, states = {}, {}
          for i, parameter in ipairs(list) do expected[i], states[i] = support.flat(parameter:detach()), {} end
          for step = 1, 10 do
            local grads = set_gradients(list, step)
            optimizer:step()
            for i = 1, #list do
              follow(expected[i], grads[i], states[i], settings, rounded)
            end
          end
          for i, parameter in ipairs(list) do
            assert.equal(dtype, parameter.dtype)
            assert.is_true(parameter.requires_grad)
            if #expected[i] > 0 then
              support.close(parameter:detach():view(-1), fp8.tensor(expected[i]), support.tolerance[dtype])
            end
          end
        end)
      end

      it(("%s{%s} goes on from a state_dict as if it had not stopped"):format(name, described(settings)), function()
        local list, other = parameters "f32", parameters "f32"
        local optimizer = fp8.optim[name](list, settings)
        for step = 1, 5 do
          set_gradients(list, step)
          optimizer:step()
        end
        for i, parameter in ipairs(other) do
          fp8.no_grad(function() parameter:copy_(list[i]:detach()) end)
        end
        local resumed = fp8.optim[name](other, {lr = 77, momentum = settings.momentum})
        resumed:load_state_dict(optimizer:state_dict())
        for step = 6, 8 do
          set_gradients(list, step)
          optimizer:step()
          set_gradients(other, step)
          resumed:step()
        end
        for i = 1, #list do support.equal(other[i]:detach(), list[i]:detach()) end
      end)
    end

    --- Steps of a parameter of f32 with these lists of gradients against the formulas.
    local function follow_steps(name, settings, steps)
      local p = {}
      for i = 1, #steps[1] do p[i] = math.cos(i) end
      local x = fp8.tensor(p, {device = device}):requires_grad_()
      p = support.flat(x:detach())
      local optimizer, state = fp8.optim[name]({x}, settings), {}
      for _, grad in ipairs(steps) do
        x.grad = fp8.tensor(grad, {device = device})
        optimizer:step()
        formulas[name](p, support.flat(x.grad), state, settings, reference.f32)
        support.close(x:detach(), fp8.tensor(p), 1e-5)
      end
    end

    it("squares no gradient beyond float32", function()
      for _, count in ipairs {7, 3000} do
        local function gradient(size)
          local list = {}
          for i = 1, count do list[i] = i % 3 == 0 and math.sin(i) or size * math.cos(i * i) end
          return list
        end
        follow_steps("AdamW", {lr = 0.1}, {
          gradient(3e19), gradient(-1e20), gradient(1e18), gradient(2e20), gradient(1),
        })
        for _, size in ipairs {2.3e19, 1e25, 3.3e38} do
          for _, name in ipairs {"AdamW", "StableAdamW"} do
            follow_steps(name, {lr = 0.1}, {gradient(size)})
            local constant = {}
            for i = 1, count do constant[i] = i % 2 == 0 and size or 1 end
            follow_steps(name, {lr = 0.1}, {constant, gradient(1), gradient(1e5)})
          end
        end
      end
    end)

    it("takes an epsilon of next to nothing, and none, with gradients of 0", function()
      local some, later = {0, 0.3, 0, -2, 1, 0}, {0, 0, 0.7, 1, -5, 0}
      for _, epsilon in ipairs {1e-30, 1e-60, 0} do
        local settings = {lr = 0.1, epsilon = epsilon}
        follow_steps("AdamW", settings, {{1, 0.3, 2, -2, 1, 3}, later, some})
        follow_steps("StableAdamW", settings, {{1, 0.3, 2, -2, 1, 3}, later, some})
        for _, name in ipairs {"AdamW", "StableAdamW"} do
          local x = fp8.tensor({1, 2, 3, 4, 5, 6}, {device = device}):requires_grad_()
          local optimizer = fp8.optim[name]({x}, {lr = 0.1, epsilon = epsilon, weight_decay = 0})
          x.grad = fp8.tensor(some, {device = device})
          optimizer:step()
          -- Every step is one of lr: the mean of g² / v, by whose root StableAdamW divides it, is below 1.
          support.close(x:detach(), fp8.tensor {1, 1.9, 3, 4.1, 4.9, 6}, 1e-6)
        end
      end
    end)

    it("shows an infinite gradient and a NaN", function()
      for _, name in ipairs {"Adam", "AdamW", "StableAdamW"} do
        for _, wrong in ipairs {math.huge, -math.huge, 0 / 0} do
          local x = fp8.ones(3, {device = device}):requires_grad_()
          x.grad = fp8.tensor({1, wrong, 2e19}, {device = device})
          fp8.optim[name]({x}, {lr = 0.1}):step()
          local value = x:totable()[2]
          assert.is_true(value ~= value)
        end
      end
    end)

    it("of Lion goes by signs: an infinite gradient's too, and a NaN stays", function()
      local x = fp8.ones(5, {device = device}):requires_grad_()
      x.grad = fp8.tensor({0, 1e-30, -math.huge, 3e38, 0 / 0}, {device = device})
      fp8.optim.Lion({x}, {lr = 0.25}):step()
      local values = x:totable()
      assert.is_true(values[5] ~= values[5])
      values[5] = nil
      assert.same({1, 0.75, 1.25, 0.75}, values)
    end)

    it("leaves parameters without a gradient alone, and drops gradients with zero_grad", function()
      local list = parameters "f32"
      local before = list[2]:detach():clone()
      local optimizer = fp8.optim.SGD(list, {lr = 0.1, weight_decay = 0.5})
      list[1].grad = fp8.ones(3, 4, {device = device})
      optimizer:step()
      support.equal(list[2]:detach(), before)
      optimizer:zero_grad()
      for _, parameter in ipairs(list) do assert.is_nil(parameter.grad) end
    end)

    it("takes a module, and settings that are changed between steps", function()
      local layer = fp8.Linear(1, 1, {device = device})
      layer:load_state_dict {weight = fp8.tensor {{1}}, bias = fp8.tensor {2}}
      local optimizer = fp8.optim.SGD(layer, {lr = 1})
      layer(fp8.ones(1, 1, {device = device})):sum():backward()
      optimizer:step()
      assert.same({{0}}, layer.weight:totable())
      optimizer.lr = 0.25
      optimizer:step()
      assert.same({{-0.25}}, layer.weight:totable())
      assert.same({0.75}, layer.bias:totable())
    end)

    it("trains: a quadratic goes to its minimum", function()
      for _, name in ipairs {"SGD", "Adam", "AdamW", "StableAdamW"} do
        local x = fp8.tensor({3, -2}, {device = device, requires_grad = true})
        local settings = name == "SGD" and {lr = 0.1, momentum = 0.5} or {lr = 0.1, weight_decay = 0}
        local optimizer = fp8.optim[name]({x}, settings)
        for _ = 1, 200 do
          optimizer:zero_grad();
          ((x - 1) ^ 2):sum():backward()
          optimizer:step()
        end
        for _, value in ipairs(x:totable()) do assert.near(1, value, 1e-2) end
      end
    end)

    it("makes a derivative that is still to be taken notice the step", function()
      local x = fp8.tensor({3, -2}, {device = device, requires_grad = true})
      x.grad = fp8.ones(2, {device = device})
      local loss = (x * x):sum()
      fp8.optim.SGD({x}, {lr = 1}):step()
      fails("changed in place", function() loss:backward() end)
    end)
  end)
end)

describe("An optimizer refuses", function()
  local x = fp8.zeros(2, {requires_grad = true})

  it("wrong parameters", function()
    for _, name in ipairs {"SGD", "Adam", "AdamW", "Lion", "Muon", "StableAdamW"} do
      fails(name, fp8.optim[name])
      fails(name, fp8.optim[name], {})
      fails(name, fp8.optim[name], 3)
      fails(name .. ": parameter 2", fp8.optim[name], {x, 3})
      fails(name .. ": parameter 1", fp8.optim[name], {fp8.zeros(2)})
      fails(name .. ": parameter 1", fp8.optim[name], {x * 2})
      fails(name .. ": parameter 2 is given twice", fp8.optim[name], {x, x})
      fails("must be contiguous", fp8.optim[name], {fp8.zeros(2, 3):t():requires_grad_()})
      fails(name .. ": group 2 must be a table", fp8.optim[name], {{parameters = {x}}, x})
      fails(name .. ": group 2: parameter 1 is given twice", fp8.optim[name], {{parameters = {x}}, {parameters = {x}}})
      fails(name .. ": group 1: unknown option rate", fp8.optim[name], {{parameters = {x}, rate = 1}})
      fails(name .. ": group 1: option lr must be", fp8.optim[name], {{parameters = {x}, lr = -1}})
      fails(name .. ": group 1 has both parameters and params", fp8.optim[name], {{parameters = {x}, params = {x}}})
      fails(name .. ": group 1: a module or a list", fp8.optim[name], {{params = 3}})
      fails(name .. ": group 1: a module or a list", fp8.optim[name], {{parameters = 3}})
      fails("at least one parameter", fp8.optim[name], {{parameters = {}}})
    end
  end)

  it("no group that calls its parameters params, as PyTorch does", function()
    local y = fp8.ones(2, {requires_grad = true})
    local optimizer = fp8.optim.SGD({{params = {x}, lr = 1}, {parameters = {y}}}, {lr = 0.5})
    assert.equal(x, optimizer.groups[1].parameters[1])
    assert.is_nil(optimizer.groups[1].params)
    x.grad, y.grad = fp8.ones(2), fp8.ones(2)
    local before = x:clone()
    optimizer:step()
    assert.same({-1, -1}, (x - before):totable())
    assert.same({0.5, 0.5}, y:totable())
    fp8.no_grad(function() x:copy_(before) end)
    x.grad = nil
  end)

  it("wrong settings", function()
    fails("SGD: unknown option rate", fp8.optim.SGD, {x}, {rate = 1})
    fails("option lr", fp8.optim.SGD, {x}, {lr = "1"})
    fails("option lr", fp8.optim.SGD, {x}, {lr = -1})
    fails("option lr", fp8.optim.AdamW, {x}, {lr = 0 / 0})
    fails("option lr", fp8.optim.AdamW, {x}, {lr = math.huge})
    fails("option beta1", fp8.optim.AdamW, {x}, {beta1 = 1})
    fails("option beta2", fp8.optim.StableAdamW, {x}, {beta2 = 1.5})
    fails("option master_weights", fp8.optim.SGD, {x}, {master_weights = 1})
    fails("option nesterov", fp8.optim.SGD, {x}, {nesterov = 1})
    fails("SGD: ", fp8.optim.SGD, {x}, 0.1)
  end)

  it("settings that are made wrong between steps, before anything changes", function()
    local y = fp8.ones(2, {requires_grad = true})
    local optimizer = fp8.optim.SGD({{parameters = {x}}, {parameters = {y}, lr = 1}}, {lr = 0.5})
    x.grad, y.grad = fp8.ones(2), fp8.ones(2)
    for _, wrong in ipairs {"1", -1, 0 / 0} do
      optimizer.groups[2].lr = wrong
      fails("SGD: option lr must be a finite number of at least 0, got " .. tostring(wrong), optimizer.step, optimizer)
    end
    optimizer.groups[2].lr, optimizer.momentum = 1, 0.5
    fails("SGD: momentum can't be switched on", optimizer.step, optimizer)
    assert.same({0, 0}, x:totable())
    assert.equal(0, optimizer.state[1].steps)
    x.grad = nil
  end)

  it("a parameter of a scope that has ended, before anything changes", function()
    local y = fp8.ones(2, {requires_grad = true})
    local optimizer
    fp8.scope(function()
      local z = fp8.ones(2, {requires_grad = true})
      z.grad, y.grad = fp8.ones(2), fp8.ones(2)
      optimizer = fp8.optim.SGD {{parameters = {y}}, {parameters = {z}}}
    end)
    fails("was freed", optimizer.step, optimizer)
    assert.same({1, 1}, y:totable())
  end)

  it("to step where no parameter has a gradient", function()
    for _, name in ipairs {"SGD", "Adam", "AdamW", "Lion", "StableAdamW"} do
      local y, z = fp8.ones(2, {requires_grad = true}), fp8.ones(2, {requires_grad = true})
      local optimizer = fp8.optim[name] {{parameters = {y}}, {parameters = {z}}}
      fails(name .. ": no parameter has a gradient", optimizer.step, optimizer)
      z:sum():backward()
      optimizer:step()
      assert.same({1, 1}, y:totable())
      assert.is_not.same({1, 1}, z:totable())
      optimizer:zero_grad()
      fails(name .. ": no parameter has a gradient", optimizer.step, optimizer)
    end
  end)

  it("parameters of a converted module that are shared, in groups, and have moments in 8 bits", function()
    local Net = fp8.nn.Module:extend "Net"
    function Net:init()
      self.first, self.second = fp8.Linear(3, 3), fp8.Linear(3, 3)
      self.second.weight = self.first.weight
    end
    function Net:forward(input) return self.second(self.first(input)) end
    for _, name in ipairs {"SGD", "Adam", "AdamW", "Lion", "Muon", "StableAdamW"} do
      local net = Net()
      local state = name ~= "Muon" and {format = "e4m3", smallest = 0} or nil
      local biases = {params = {net.first.bias, net.second.bias}}
      if name == "Muon" then biases.use_muon = false end
      local optimizer = fp8.optim[name]({{params = {net.first.weight}, lr = 0.5}, biases},
        {momentum = name == "SGD" and 0.9 or nil, state = state})
      net(fp8.ones(1, 3)):sum():backward()
      optimizer:step()
      net:to "bf16"
      assert.equal(net.first.weight, net.second.weight)
      net(fp8.ones(1, 3, {dtype = "bf16"})):sum():backward()
      fails(name .. ": parameter 1 was replaced when its module was converted or moved: take the parameters after " ..
        "module:to", optimizer.step, optimizer)
    end
  end)

  it("parameters of a module that has been converted since", function()
    local model = fp8.nn.Sequential(fp8.Linear(3, 3), fp8.Linear(3, 2))
    local old = model:parameters()
    local optimizer = fp8.optim.AdamW(model)
    model(fp8.ones(1, 3)):sum():backward()
    model:to "f32" -- which changes nothing
    optimizer:step()
    model:to "bf16"
    model(fp8.ones(1, 3, {dtype = "bf16"})):sum():backward()
    fails("AdamW: parameter 1 was replaced", optimizer.step, optimizer)
    fails("SGD: parameter 1 was replaced", fp8.optim.SGD, old)
    fails("clip_grad_norm: parameter 1 was replaced", fp8.optim.clip_grad_norm, old, 1)
    local before = model[2].weight:totable()
    fp8.optim.SGD(model, {lr = 0.5}):step()
    assert.is_not.same(before, model[2].weight:totable())
  end)
end)

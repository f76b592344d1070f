-- Delayed scaling: scales from the magnitudes of earlier steps, against the same rule in plain Lua.
local core = require "fp8.core"
local fp8 = require "fp8"
local reference = require "spec.support.reference"
local positional = require "spec.support.positional"
local support = require "spec.support"

local fails = support.fails

--- The rule: a function that takes a list of values, records their absmax, and returns the scale for them.
local function new_rule(format, length, scale_rounding)
  local history = {}
  return function(x, record)
    local absmax, past = 0, 0
    for _, value in ipairs(x) do absmax = math.max(absmax, math.abs(value)) end
    for _, value in ipairs(history) do past = math.max(past, value) end
    if record then
      table.insert(history, 1, absmax)
      history[length + 1] = nil
    end
    return reference.scale(past > 0 and past or absmax, format, scale_rounding)
  end
end

local function history_recipe(length, weight_grad)
  return {
    input = {format = "e4m3", scale = "tensor", history = length},
    weight = {format = "e4m3", scale = "tensor", history = length},
    grad_output = {format = "e5m2", scale = "tensor", history = length},
    weight_grad = weight_grad or "quantized",
  }
end

support.each_device(function(device)
  local random
  before_each(function()
    fp8.manual_seed(1)
    random = support.random(1)
  end)

  local function random_matrix(rows, columns)
    return fp8.randn(rows, columns, {device = device}) * math.exp(random(5) - 3)
  end

  describe("delayed_scale", function()
    it("follows its rule, for tensors of every kind", function()
      local map = fp8.create_map(true, 4, 3, 8)
      for _, case in ipairs {{"e4m3", 3}, {"e5m2", 1, "power_of_two"}, {map, 5}, {"e4m3", 300, "mx"}} do
        local format, length, rounding = unpack(case)
        local is_map = core.is_tensor(format)
        local rule = new_rule(is_map and {} or format, length, rounding)
        local history = fp8.zeros(length, {device = device})
        for step = 1, 8 do
          local dtype = ({"f32", "f16", "bf16"})[step % 3 + 1]
          local x = random_matrix(({1, 7, 64, 130})[step % 4 + 1], ({1, 33, 128})[step % 3 + 1]):to(dtype)
          if step == 6 then x = x:t() end
          local record = step % 4 ~= 0
          local scale = positional.delayed_scale(x, history, format, rounding, record)
          assert.same({rule(support.flat(x), record)}, scale:totable())
        end
      end
    end)

    it("gives NaN for a broken tensor, which leaves the history as it was", function()
      local history = fp8.tensor({3, 2, 1}, {device = device})
      for _, bad in ipairs {0 / 0, math.huge, -math.huge} do
        local x = fp8.ones(5, 8, {device = device})
        x[3]:narrow(1, 2, 1):fill_(bad)
        local scale = positional.delayed_scale(x, history, "e4m3", nil, true):item()
        assert.is_true(scale ~= scale)
        assert.same({3, 2, 1}, history:totable())
      end
      local scale = positional.delayed_scale(fp8.ones(4, {device = device}), history, "e4m3")
      assert.equal(reference.f32(3 / 448), scale:item())
    end)

    it("takes its own absmax where the history is empty, or broken from outside", function()
      local x = fp8.tensor({-7, 2}, {device = device})
      for _, start in ipairs {0, 0 / 0, math.huge} do
        local history = fp8.full({4}, start, {device = device})
        assert.equal(reference.f32(7 / 448), positional.delayed_scale(x, history, "e4m3", nil, true):item())
        assert.equal(7, history:totable()[1])
      end
      local history = fp8.zeros(2, {device = device})
      assert.equal(0, positional.delayed_scale(fp8.zeros(3, {device = device}), history, "e4m3", nil, true):item())
      assert.equal(0, positional.delayed_scale(fp8.zeros(0, {device = device}), history, "e4m3", nil, true):item())
    end)

    it("refuses what is no history", function()
      local x = fp8.zeros(2, 2, {device = device})
      local on, half = {device = device}, {device = device, dtype = "bf16"}
      for _, wrong in ipairs {fp8.zeros(0, on), fp8.zeros(2, 2, on), fp8.zeros(2, half), fp8.zeros(4, 2, on):t()[1]} do
        fails("history", positional.delayed_scale, x, wrong, "e4m3")
      end
    end)
  end)

  describe("A layer with histories", function()
    --- One training step on new data; returns x, dy and the results. `scale` makes them larger.
    local function step(layer, scale)
      layer:zero_grad()
      local x = (fp8.randn(32, 48, {device = device}) * scale):requires_grad_()
      local dy = fp8.randn(32, 16, {device = device}) * scale
      local y = layer(x)
      y:backward(dy)
      return x, dy, y:detach()
    end

    for _, weight_grad in ipairs {"quantized", "full"} do
      it("computes every product with the scales of its history, weight gradient " .. weight_grad, function()
        local layer = fp8.Linear(48, 16, {device = device, recipe = history_recipe(2, weight_grad)})
        local of_x, of_weight, of_dy = new_rule("e4m3", 2), new_rule("e4m3", 2), new_rule("e5m2", 2)
        for i, scale in ipairs {1, 5, 0.2, 0.1, 0.1, 30} do
          local x, dy, y = step(layer, scale)
          local flat_x, flat_dy = support.flat(x:detach()), support.flat(dy)
          local weight = support.flat(layer.weight:detach())
          local qx = reference.fake_quantize(flat_x, "e4m3", "tensor", {32, 48}, "f32", nil, of_x(flat_x, true))
          local qdy = reference.fake_quantize(flat_dy, "e5m2", "tensor", {32, 16}, "f32", nil, of_dy(flat_dy, true))
          local weight_scale = of_weight(weight, true)
          local qw = reference.fake_quantize(weight, "e4m3", "tensor", {16, 48}, "f32", nil, weight_scale)
          local want = reference.matmul(qx, qw, 32, 48, 16, false, true)
          support.close(y - layer.bias:detach(), fp8.tensor(want):view(32, 16))
          support.close(x.grad, fp8.tensor(reference.matmul(qdy, qw, 32, 16, 48)):view(32, 48))
          local full = weight_grad == "full"
          want = reference.matmul(full and flat_dy or qdy, full and flat_x or qx, 16, 32, 48, true)
          support.close(layer.weight.grad, fp8.tensor(want):view(16, 48))
          fp8.no_grad(function() layer.weight:mul_(i % 2 == 0 and 0.5 or 3) end)
        end
      end)
    end

    it("shows a broken step as NaN, and is as before after it", function()
      local layer = fp8.Linear(48, 16, {device = device, recipe = history_recipe(4)})
      local other = fp8.Linear(48, 16, {device = device, recipe = history_recipe(4)})
      other:load_state_dict(layer:state_dict())
      for i = 1, 3 do
        fp8.manual_seed(i)
        step(layer, 1)
        fp8.manual_seed(i)
        step(other, 1)
      end
      local x = fp8.ones(4, 48, {device = device})
      x[2]:narrow(1, 5, 1):fill_(0 / 0)
      local y = layer(x:requires_grad_())
      for _, value in ipairs(support.flat(y)) do assert.is_true(value ~= value) end
      y:backward(fp8.full({4, 16}, math.huge, {device = device}))
      for _, value in ipairs(support.flat(x.grad)) do assert.is_true(value ~= value) end
      local mine, its = layer:state_dict(), other:state_dict()
      for name in pairs(its) do support.equal(mine[name], its[name]) end
      fp8.manual_seed(9)
      local _, _, after = step(layer, 1)
      fp8.manual_seed(9)
      local _, _, expected = step(other, 1)
      support.equal(after, expected)
    end)

    it("is not changed by evaluation, and not by products without gradients", function()
      local layer = fp8.Linear(48, 16, {device = device, recipe = history_recipe(4)})
      step(layer, 1)
      local function histories()
        local state = layer:state_dict()
        return {state.input_history:totable(), state.weight_history:totable(), state.grad_output_history:totable()}
      end
      local before = histories()
      assert.is_true(before[1][1] > 0 and before[2][1] > 0 and before[3][1] > 0)
      fp8.no_grad(function()
        layer.weight:mul_(2)
        layer(random_matrix(8, 48))
      end)
      layer:eval()
      step(layer, 3)
      assert.same(before, histories())
      layer:train()
      step(layer, 1)
      local after = histories()
      for i = 1, 3 do assert.equal(before[i][1], after[i][2]) end
    end)

    it("goes on from its state_dict, and keeps histories in float32", function()
      local layer = fp8.Linear(48, 16, {device = device, recipe = history_recipe(3)})
      for _ = 1, 4 do step(layer, math.exp(random(3) - 2)) end
      local path = os.tmpname()
      fp8.save(path, layer:state_dict())
      local resumed = fp8.Linear(48, 16, {device = device, recipe = history_recipe(3)})
      resumed:load_state_dict((fp8.load(path)))
      os.remove(path)
      for i = 1, 3 do
        fp8.manual_seed(i)
        local x, _, y = step(layer, 2)
        fp8.manual_seed(i)
        local other_x, _, other_y = step(resumed, 2)
        support.equal(y, other_y)
        support.equal(x.grad, other_x.grad)
        support.equal(layer.weight.grad, resumed.weight.grad)
      end
      assert.equal(2, #layer:parameters())
      local before = layer.input_history
      layer:to {dtype = "bf16", device = "cpu"}
      assert.equal("bf16", layer.weight.dtype)
      assert.equal("f32", layer.input_history.dtype)
      assert.equal("cpu", layer.input_history.device)
      support.equal(layer.input_history, before)
    end)

    it("is loaded from histories of any length, and from weights alone", function()
      local function layer_of(length) return fp8.Linear(48, 16, {device = device, recipe = history_recipe(length)}) end
      local layer = layer_of(3)
      for i = 1, 4 do
        step(layer, i)
        fp8.no_grad(function() layer.weight:mul_(1.25) end)
      end
      local past = layer.input_history:totable()
      local longer, shorter, plain = layer_of(5), layer_of(2), fp8.Linear(48, 16, {device = device})
      longer:load_state_dict(layer:state_dict())
      shorter:load_state_dict(layer:state_dict())
      assert.same({past[1], past[2], past[3], 0, 0}, longer.input_history:totable())
      assert.same({past[1], past[2]}, shorter.input_history:totable())
      step(shorter, 1)
      shorter:load_state_dict(plain:state_dict())
      assert.same({0, 0}, shorter.input_history:totable())
      support.equal(shorter.weight, plain.weight)
      local wrong = layer:state_dict()
      wrong.input_history = fp8.zeros(3, 1)
      fails("input_history has shape", function() layer:load_state_dict(wrong) end)
      assert.same(past, layer.input_history:totable())
    end)

    it("says so where the histories are gone before the backward pass", function()
      local layer = fp8.Linear(48, 16, {device = device, recipe = history_recipe(2)})
      local loss = layer(fp8.randn(32, 48, {device = device})):sum()
      fp8.convert(layer, false)
      support.fails("backward: a layer with delayed scaling was converted after its forward pass",
        function() loss:backward() end)
    end)

    it("may have histories of its own for one product", function()
      local recipe = history_recipe(2)
      recipe.input_grad = {weight = {format = "e4m3", scale = "tensor", history = 3}}
      recipe.weight_grad = {input = {format = "e5m2", scale = "tensor", history = 4, scale_rounding = "power_of_two"}}
      local layer = fp8.Linear(48, 16, {device = device, recipe = recipe})
      step(layer, 1)
      fp8.no_grad(function() layer.weight:mul_(1.5) end)
      step(layer, 2)
      local state = layer:state_dict()
      for name, length in support.sorted_pairs {
        input_history = 2, weight_history = 2, grad_output_history = 2, input_grad_weight_history = 3,
        weight_grad_input_history = 4,
      } do
        assert.same({length}, state[name].shape)
        local values = state[name]:totable()
        assert.is_true(values[1] > 0 and values[2] > 0, name)
        assert.equal(0, values[3] or 0, name)
      end
    end)

    it("counts training steps, not calls", function()
      local layer = fp8.Linear(48, 16, {device = device, recipe = history_recipe(3)})
      local function absmax(x) return x:detach():abs():max():item() end
      local inputs, grads, weights = {0, 0, 0}, {0, 0, 0}, {0, 0, 0}
      for i, calls in ipairs {3, 1, 2, 4} do
        local of_input, of_grad = 0, 0
        for _ = 1, calls do
          local x, dy = step(layer, math.exp(random(5) - 3))
          of_input, of_grad = math.max(of_input, absmax(x)), math.max(of_grad, absmax(dy))
        end
        for j, list in ipairs {inputs, grads, weights} do
          table.insert(list, 1, ({of_input, of_grad, absmax(layer.weight)})[j])
          list[4] = nil
        end
        assert.same(inputs, layer.input_history:totable())
        assert.same(grads, layer.grad_output_history:totable())
        assert.same(weights, layer.weight_history:totable())
        fp8.no_grad(function() layer.weight:mul_(i % 2 == 0 and 0.5 or 3) end)
      end
      layer.weight:requires_grad_(false)
      for _ = 1, 2 do
        local x = step(layer, 1)
        table.insert(inputs, 1, absmax(x))
        inputs[4] = nil
        assert.same(inputs, layer.input_history:totable())
      end
    end)
  end)

  if device ~= "cpu" then
    describe("A graph of a layer with histories", function()
      it("does what the steps do", function()
        local function build()
          fp8.manual_seed(4)
          local layer = fp8.Linear(48, 16, {device = device, recipe = history_recipe(3)})
          return layer, fp8.optim.SGD(layer, {lr = 0.1})
        end
        local x, target = fp8.zeros(32, 48, {device = device}), fp8.zeros(32, {dtype = "i64", device = device})
        local function train(layer, optimizer)
          return function()
            optimizer:zero_grad()
            local loss = fp8.cross_entropy(layer(x), target)
            loss:backward()
            optimizer:step()
            return loss
          end
        end
        local captured, eager = {build()}, {build()}
        local function fill(i) x:copy_(fp8.randn(32, 48) * i) end
        fp8.manual_seed(5)
        fill(1)
        local graph = fp8.cuda.graph(train(unpack(captured)))
        local losses = {}
        for i = 2, 6 do
          fill(i)
          losses[i] = graph():item()
        end
        fp8.manual_seed(5)
        local run = train(unpack(eager))
        fill(1)
        run()
        for i = 2, 6 do
          fill(i)
          assert.equal(losses[i], run():item())
        end
        local mine, its = captured[1]:state_dict(), eager[1]:state_dict()
        for name in pairs(its) do support.equal(mine[name], its[name]) end
      end)
    end)
  end
end)

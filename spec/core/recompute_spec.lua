-- fp8.recompute: the numbers of the function itself, with less memory.
local core = require "fp8.core"
local fp8 = require "fp8"
local support = require "spec.support"

local fails, in_use = support.fails, support.in_use

support.each_device(function(device)
  local on = {device = device}

  local function leaf(values) return fp8.tensor(values, {device = device, requires_grad = true}) end

  local function exactly(expected, actual)
    assert.same(support.flat(expected:detach()), support.flat(actual:detach()))
  end

  -- What a model gives for an input, twice in a row in one graph: the result, and all gradients.
  local function results(model, x)
    local input = x:clone():requires_grad_()
    model:zero_grad()
    fp8.manual_seed(11)
    local y = model(model(input * 2))
    y:square():sum():backward()
    local list = {y, input.grad}
    for _, parameter in ipairs(model:parameters()) do list[#list + 1] = parameter.grad end
    local _, position = fp8.random_state()
    return list, position
  end

  -- Compares a block that keeps everything with the same block that computes it again.
  local function compare(block, width)
    fp8.manual_seed(3)
    local x = fp8.randn(2, 16, width, on)
    local before = {}
    for name, tensor in pairs(block:state_dict()) do before[name] = tensor:clone() end
    local expected, expected_position = results(block, x)
    local expected_state = {}
    for name, tensor in pairs(block:state_dict()) do expected_state[name] = tensor:clone() end
    block:load_state_dict(before)
    block.recompute = true
    local found, position = results(block, x)
    assert.equal(#expected, #found)
    for i = 1, #expected do exactly(expected[i], found[i]) end
    for name, tensor in pairs(block:state_dict()) do exactly(expected_state[name], tensor) end
    assert.equal(expected_position, position)
  end

  describe("fp8.recompute", function()
    before_each(function() fp8.set_deterministic(true) end) -- or a GPU takes another algorithm at a product's third use
    after_each(function() fp8.set_deterministic(false) end)

    for _, dropout in ipairs {0, 0.25} do
      for _, recipe in ipairs {false, "mixed", "global_native", "delayed"} do
        it(("gives a block's numbers, %s, dropout %g"):format(recipe or "plain", dropout), function()
          fp8.manual_seed(5)
          local block = fp8.nn.TransformerBlock(32, 2, {causal = true, dropout = dropout, device = device})
          if recipe then fp8.convert(block, recipe) end
          compare(block, 32)
        end)
      end
    end

    it("draws the same random numbers for stochastic rounding", function()
      fp8.manual_seed(5)
      local block = fp8.nn.TransformerBlock(32, 2, {device = device})
      local recipe = {}
      for key, value in pairs(fp8.recipes.mixed) do recipe[key] = value end
      recipe.rounding = "stochastic"
      fp8.convert(block, recipe)
      compare(block, 32)
    end)

    it("passes gradients to arguments and to what is around the function", function()
      local a, b, c = leaf {1, 2}, leaf {3, 4}, leaf {5, 6}
      local outer = c * 2
      local function f(x, factor) return x * b * factor + outer end
      local y = fp8.recompute(f, a * 1, 10)
      assert.same({40, 92}, y:detach():totable());
      (y * y):sum():backward()
      assert.same({2 * 40 * 30, 2 * 92 * 40}, a.grad:totable())
      assert.same({2 * 40 * 10, 2 * 92 * 20}, b.grad:totable())
      assert.same({2 * 40 * 2, 2 * 92 * 2}, c.grad:totable())
    end)

    it("takes an argument several times, and the gradient as it is", function()
      local a = leaf {2, 3}
      fp8.recompute(function(x, y) return x * y end, a, a):sum():backward()
      assert.same({4, 6}, a.grad:totable())
      a.grad = nil
      fp8.recompute(function(x) return x end, a):sum():backward()
      assert.same({1, 1}, a.grad:totable())
      a.grad = nil
      fp8.recompute(function(x) return x end, a * 2):sum():backward()
      assert.same({2, 2}, a.grad:totable())
      a.grad = nil
      fp8.recompute(function(x) return x:view(2, 1) end, a):backward(fp8.tensor({{5}, {6}}, on))
      a.grad:mul_(2)
      assert.same({10, 12}, a.grad:totable())
    end)

    it("may be nested", function()
      local calls, a = 0, leaf {2, 3}
      local function inner(x)
        calls = calls + 1
        return x * x
      end
      local function outer(x) return fp8.recompute(inner, fp8.recompute(inner, x)) end
      fp8.recompute(outer, a):sum():backward()
      assert.same({4 * 8, 4 * 27}, a.grad:totable())
      assert.equal(2 + 2 + 2, calls)
    end)

    it("can be gone through twice with retain_graph", function()
      local a, calls = leaf {2, 3}, 0
      local y = fp8.recompute(function(x)
        calls = calls + 1
        return x * x
      end, a):sum()
      y:backward(nil, {retain_graph = true})
      y:backward()
      assert.same({8, 12}, a.grad:totable())
      assert.equal(3, calls)
      fails("retain_graph", function() y:backward() end)
    end)

    it("only calls the function where nothing is recorded", function()
      local calls = 0
      local function f(x)
        calls = calls + 1
        return x * 2, "second"
      end
      local a = leaf {1}
      local y, second = fp8.no_grad(fp8.recompute, f, a)
      assert.is_false(y.requires_grad)
      assert.equal("second", second)
      local z = fp8.recompute(function(x) return x * 2 end, fp8.tensor({1}, on))
      assert.is_false(z.requires_grad)
      assert.equal(1, calls)
    end)

    it("takes modules, and those alone that can be called", function()
      local layer = fp8.Linear(3, 2, on)
      local x = fp8.ones(4, 3, on)
      exactly(layer(x), fp8.recompute(layer, x))
      fails("recompute: a function or a module is needed, got number", fp8.recompute, 3)
      fails("recompute: a function or a module is needed, got userdata", fp8.recompute, x)
      fails("recompute: the function must return one tensor, got 2 values", fp8.recompute,
        function() return x, x end)
      fails("recompute: the function must return one tensor, got nil", fp8.recompute, function() return nil end)
    end)

    it("refuses a function that goes another way the second time", function()
      local a, b, calls = leaf {1, 2}, leaf {3, 4}, 0
      local function run(second)
        calls = 0
        return fp8.recompute(function(x)
          calls = calls + 1
          return calls == 1 and x * 2 or second(x)
        end, a):sum()
      end
      local changed = run(function(x) return x * b end)
      fails("computed with other tensors that require a gradient in the backward pass",
        function() changed:backward() end)
      local other = run(function(x) return (x * 2):view(2, 1) end)
      fails("returned f32 of shape (2, 1) in the backward pass", function() other:backward() end)
      local broken = run(function() error "on purpose" end)
      fails("on purpose", function() broken:backward() end)
      assert.is_nil(a.grad)
      assert.is_nil(b.grad)
      assert.is_true((a * 2).requires_grad)
    end)

    it("notices an argument and a parameter that have been changed in place", function()
      local layer, x = fp8.Linear(3, 2, on), fp8.ones(4, 3, on)
      local y = fp8.recompute(layer, x)
      fp8.no_grad(function() layer.weight:mul_(2) end)
      fails("of shape (2, 3) that recompute needs was changed in place", function() y:sum():backward() end)
      local z = fp8.recompute(layer, x)
      x:add_(1)
      fails("of shape (4, 3) that recompute needs for its derivative was changed", function() z:sum():backward() end)
      assert.is_nil(layer.weight.grad)
    end)

    it("leaves random numbers and recording as they are after an error", function()
      local a, calls = leaf {1, 2}, 0
      local y = fp8.recompute(function(x)
        calls = calls + 1
        local dropped = fp8.dropout(x, 0.5)
        if calls == 2 then error "on purpose" end
        return dropped
      end, a)
      local seed, position = fp8.random_state()
      fails("on purpose", function() y:sum():backward() end)
      local seed_after, position_after = fp8.random_state()
      assert.equal(seed, seed_after)
      assert.equal(position, position_after)
      assert.is_true((a * 2).requires_grad)
    end)

    it("keeps the argument alone, and frees the rest without the collector", function()
      local x = fp8.randn(1024, 64, on):requires_grad_()
      local layer = fp8.Linear(64, 64, on)
      local function f(input)
        for _ = 1, 6 do input = layer(input):relu() end
        return input
      end
      f(x):sum():backward()
      x.grad = nil
      layer:zero_grad()
      local unit, before = 1024 * 64 * 4, in_use(device)
      collectgarbage "stop"
      local y = fp8.recompute(f, x)
      local kept = (core.memory(device).in_use - before) / unit
      core.reset_peak_memory(device)
      y:backward(y:detach())
      local peak = (core.memory(device).peak - before) / unit
      local left = (core.memory(device).in_use - before) / unit
      collectgarbage "restart"
      assert.is_true(kept < 1.2, ("%.2f tensors are kept"):format(kept))
      assert.is_true(left < 2.7, ("%.2f tensors are left"):format(left))
      assert.is_true(peak < 18, ("%.2f tensors at the peak"):format(peak)) -- 12 results, gradients and y
    end)

    it("works inside a scope", function()
      local a = leaf {2, 3}
      local y = fp8.scope(function() return fp8.recompute(function(x) return x * x end, a * 2) end)
      y:sum():backward()
      assert.same({16, 24}, a.grad:totable())
    end)
  end)
end)

if #support.devices > 1 then
  describe("fp8.recompute in a graph", function()
    it("gives the numbers of the eager step, histories included", function()
      local function training(recompute)
        fp8.manual_seed(4)
        local block = fp8.nn.TransformerBlock(64, 2, {causal = true, device = "cuda", recompute = recompute})
        fp8.convert(block, "delayed")
        local optimizer, x = fp8.optim.SGD(block, {lr = 0.01}), fp8.randn(2, 32, 64, {device = "cuda"})
        return block, function()
          optimizer:zero_grad()
          local loss = block(x):square():mean()
          loss:backward()
          optimizer:step()
          return loss:detach()
        end
      end
      local eager_block, eager = training(false)
      local block, step = training(true)
      local graph = fp8.cuda.graph(step)
      eager()
      for _ = 1, 4 do support.close(graph(), eager(), 1e-5) end
      local expected = eager_block:state_dict()
      for name, tensor in pairs(block:state_dict()) do support.close(tensor, expected[name], 1e-4) end
    end)
  end)
end

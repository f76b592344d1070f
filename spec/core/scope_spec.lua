-- fp8.scope: frees at once what was made inside, and keeps what is needed outside.
local core = require "fp8.core"
local fp8 = require "fp8"
local positional = require "spec.support.positional"
local support = require "spec.support"

local fails = support.fails

support.each_device(function(device)
  it("a finalizer can't free what a call is using, on " .. device, function()
    local function call_while_finalizers_free(f, ...)
      local x = fp8.randn(4, 64, {device = device})
      for _ = 1, 2000 do
        local trap = newproxy(true)
        local target = x
        getmetatable(trap).__gc = function() core.free(target) end
        trap = nil -- luacheck: ignore
        local ok, message = pcall(f, x, ...)
        if not ok then
          assert.is_truthy(message:find("freed", 1, true), message)
          x = fp8.randn(4, 64, {device = device})
        end
      end
    end
    call_while_finalizers_free(positional.quantize, "e4m3", 64)
    call_while_finalizers_free(core.layer_norm, nil, nil, 1e-5)
    call_while_finalizers_free(core.add, 1)
    call_while_finalizers_free(function(x) return core.clip_grad_norm({x}, 1) end)
  end)

  local on = {device = device}

  local function in_use() return core.memory(device).in_use end

  local function settled()
    collectgarbage()
    collectgarbage()
    return in_use()
  end

  describe("fp8.scope", function()
    it("frees at once, without the collector", function()
      local before = settled()
      collectgarbage "stop"
      fp8.scope(function()
        for _ = 1, 10 do fp8.zeros(1000, on) end
        assert.equal(before + 40000, in_use())
      end)
      assert.equal(before, in_use())
      collectgarbage "restart"
    end)

    it("keeps the tensors that are returned", function()
      local x, number, y, none, last = fp8.scope(function(a, b)
        local hidden = fp8.ones(3, on)
        return hidden + a, b, hidden * 2, nil, hidden:narrow(1, 1, 1)
      end, 1, "b")
      assert.same({2, 2, 2}, x:totable())
      assert.equal("b", number)
      assert.same({2, 2, 2}, y:totable())
      assert.is_nil(none)
      assert.same({1}, last:totable())
    end)

    it("keeps the tensors in tables that are returned, keys and cycles included", function()
      local result = fp8.scope(function()
        local x = fp8.ones(2, on)
        local all = {list = {{x}}, [x * 3] = "key"}
        all.self = all
        return all
      end)
      assert.same({1, 1}, result.list[1][1]:totable())
      for key in pairs(result) do
        if core.is_tensor(key) then assert.same({3, 3}, key:totable()) end
      end
    end)

    it("keeps a returned module", function()
      local layer = fp8.scope(function() return fp8.Linear(3, 2, on) end)
      assert.same({4, 2}, layer(fp8.zeros(4, 3, on)).shape)
    end)

    it("keeps the graph of a returned tensor", function()
      local w = fp8.tensor({1, 2, 3}, {device = device, requires_grad = true})
      local loss = fp8.scope(function()
        local x = fp8.tensor({4, 5, 6}, on)
        return ((w * x):exp():log() * x):sum()
      end)
      loss:backward()
      for i, value in ipairs(w.grad:totable()) do assert.near(({16, 25, 36})[i], value, 1e-3) end
    end)

    it("keeps gradients that are written inside", function()
      local w = fp8.tensor({1, 2}, {device = device, requires_grad = true})
      for round = 1, 3 do
        fp8.scope(function() (w * w):sum():backward() end)
        assert.same({2 * round, 4 * round}, w.grad:totable())
      end
      fp8.scope(function() w.grad = fp8.zeros(2, on) end)
      assert.same({0, 0}, w.grad:totable())
    end)

    for name, make in support.sorted_pairs {
      ["SGD with momentum"] = function(p) return fp8.optim.SGD(p, {lr = 0.1, momentum = 0.9}) end,
      AdamW = function(p) return fp8.optim.AdamW(p, {lr = 0.1}) end,
    } do
      it("keeps the state of " .. name, function()
        local function train(wrap)
          local w = fp8.tensor({1, 2}, {device = device, requires_grad = true})
          local optimizer = make {w}
          for _ = 1, 3 do
            wrap(function()
              optimizer:zero_grad();
              (w * w):sum():backward()
              optimizer:step()
            end)
          end
          return w:totable()
        end
        assert.same(train(function(f) f() end), train(fp8.scope))
      end)
    end

    it("leaves tensors from outside alone, changed ones too", function()
      local x = fp8.zeros(2, on)
      local view
      fp8.scope(function()
        x:add_(fp8.ones(2, on))
        view = x:detach()
      end)
      assert.same({1, 1}, x:totable())
      fails("freed", function() view:totable() end)
    end)

    it("makes the others raise an error", function()
      local lost
      fp8.scope(function() lost = fp8.zeros(2, on) end)
      fails("this tensor was freed", function() return lost + 1 end)
      fails("this tensor was freed", function() return lost:totable() end)
      fails("this tensor was freed", function() lost:fill_(1) end)
    end)

    it("passes errors through and frees", function()
      local before = settled()
      local mark, lost = {}, nil
      local ok, message = pcall(fp8.scope, function()
        lost = fp8.zeros(1000, on)
        error(mark)
      end)
      assert.is_false(ok)
      assert.equal(mark, message)
      assert.equal(before, in_use())
      fails("this tensor was freed", function() return lost:sum() end)
      fails("scope: ", fp8.scope, 3)
      fails("scope: ", fp8.scope)
    end)

    it("may be nested: what the inner one returns belongs to the outer one", function()
      local before = settled()
      local inner_kept, inner_lost
      local kept = fp8.scope(function()
        inner_kept = fp8.scope(function()
          inner_lost = fp8.ones(5, on)
          return inner_lost + 1
        end)
        assert.same({2, 2, 2, 2, 2}, inner_kept:totable())
        fails("freed", function() return inner_lost + 1 end)
        pcall(fp8.scope, function() error "inside" end)
        return inner_kept * 2
      end)
      assert.same({4, 4, 4, 4, 4}, kept:totable())
      fails("freed", function() return inner_kept + 1 end)
      assert.equal(before + 20, in_use())
    end)

    it("may end while the collector has already taken some", function()
      local before = settled()
      fp8.scope(function()
        for _ = 1, 100 do fp8.zeros(100, on) end
        collectgarbage()
        collectgarbage()
        assert.equal(before, in_use())
        fp8.zeros(100, on)
      end)
      assert.equal(before, in_use())
    end)

    it("can't be left by a coroutine that yields", function()
      local before = settled()
      local kept
      fails("attempt to yield", coroutine.wrap(function()
        fp8.scope(function()
          kept = fp8.zeros(100, on)
          coroutine.yield(1)
        end)
      end))
      assert.equal(before, in_use())
      fails("freed", function() return kept + 1 end)
    end)

    it("keeps many steps of training in constant memory without the collector", function()
      local layer = fp8.LinearMixed(64, 64, on)
      local optimizer = fp8.optim.SGD(layer:parameters(), {lr = 0.01, momentum = 0.9})
      local function step()
        fp8.scope(function()
          optimizer:zero_grad()
          layer(fp8.randn(32, 64, on)):relu():mean():backward()
          optimizer:step()
        end)
      end
      step()
      step()
      settled()
      collectgarbage "stop"
      step()
      local first = in_use()
      for _ = 1, 50 do step() end
      local last = in_use()
      collectgarbage "restart"
      assert.is_true(last <= first + 51 * 4 * (64 * 64 + 64), ("%d bytes, then %d"):format(first, last))
      assert.is_true(settled() <= first)
    end)
  end)
end)

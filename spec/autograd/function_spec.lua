-- fp8.Function: operations written in Lua, with their derivatives.
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails

support.each_device(function(device)
  local function leaf(values)
    return fp8.tensor(values, {device = device, requires_grad = true})
  end

  local function constant(values)
    return fp8.tensor(values, {device = device})
  end

  describe("fp8.Function", function()
    local square = fp8.Function {
      name = "square",
      forward = function(ctx, x)
        ctx:save(x)
        return x * x
      end,
      backward = function(ctx, grad_output) return 2 * grad_output * ctx:saved() end,
    }

    it("adds an operation with its derivative", function()
      local x = leaf {1, 2, 3}
      square(square(x)):sum():backward()
      assert.same({4, 32, 108}, x.grad:totable())
    end)

    it("records nothing where no gradient is needed", function()
      assert.is_false(square(constant {2}).requires_grad)
      fp8.no_grad(function() assert.is_false(square(leaf {2}).requires_grad) end)
    end)

    it("takes several inputs, other values and inputs without a gradient", function()
      local needs
      local scaled = fp8.Function {
        forward = function(ctx, x, factor, y)
          ctx.factor, needs = factor, {ctx.needs_grad[1], ctx.needs_grad[2], ctx.needs_grad[3]}
          ctx:save(x, y)
          return x * y * factor
        end,
        backward = function(ctx, g)
          local x, y = ctx:saved()
          return g * y * ctx.factor, nil, g * x * ctx.factor
        end,
      }
      local x, y = leaf {1, 2}, leaf {3, 4}
      scaled(x, 10, y):sum():backward()
      assert.same({true, false, true}, needs)
      assert.same({30, 40}, x.grad:totable())
      assert.same({10, 20}, y.grad:totable())
      local c = constant {5, 6}
      x.grad = nil
      scaled(x, 1, c):sum():backward()
      assert.same({true, false, false}, needs)
      assert.same({5, 6}, x.grad:totable())
      assert.is_nil(c.grad)
    end)

    it("has a wrong number of gradients refused", function()
      local function returning(...)
        local count, grads = select("#", ...), {...}
        return fp8.Function {
          name = "wrong",
          forward = function(_, x, y) return x + y end,
          backward = function() return unpack(grads, 1, count) end,
        }
      end
      local one = constant {1, 1}
      for _, f in ipairs {returning(one), returning(one, one, one), returning()} do
        local x, y = leaf {1, 2}, leaf {3, 4}
        fails("2 inputs", function() f(x, y):sum():backward() end)
        assert.is_nil(x.grad)
        assert.is_nil(y.grad)
      end
      local function backward(f) f(leaf {1, 2}, leaf {1, 2}):sum():backward() end
      fails("wrong: gradient 2", backward, returning(one, constant {1, 2, 3}))
      fails("wrong: gradient 1", backward, returning("one", one))
    end)

    it("notices saved tensors that were changed", function()
      local x = constant {2, 3}
      local w = leaf {1, 1}
      local product = fp8.Function {
        name = "product",
        forward = function(ctx, a, b)
          ctx:save(a, b)
          return a * b
        end,
        backward = function(ctx, g)
          local a, b = ctx:saved()
          return g * b, g * a
        end,
      }
      local loss = product(x, w):sum()
      x:mul_(2)
      fails("changed in place", function() loss:backward() end)
    end)

    it("may return its argument", function()
      local identity = fp8.Function {
        forward = function(_, x) return x end,
        backward = function(_, g) return g * 3 end,
      }
      local x = leaf {1, 2}
      identity(x):sum():backward()
      assert.same({3, 3}, x.grad:totable())
      assert.is_true(x.requires_grad)
    end)

    it("checks its definition and what forward returns", function()
      fails("Function: ", fp8.Function, 3)
      fails("backward", fp8.Function, {forward = function() end})
      fails("forward", fp8.Function, {backward = function() end})
      local nothing = fp8.Function {name = "nothing", forward = function() end, backward = function() end}
      fails("nothing: ", nothing, leaf {1})
    end)

    it("passes errors through", function()
      local broken = fp8.Function {
        forward = function(_, x) return x * 2 end,
        backward = function() error "broken on purpose" end,
      }
      local x = leaf {1}
      fails("broken on purpose", function() broken(x):sum():backward() end)
      assert.is_true((x * 2).requires_grad)
    end)
  end)
end)

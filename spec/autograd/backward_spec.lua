-- The tape: what backward computes, accumulates, keeps and refuses. The derivatives: gradient_spec.lua.
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

  describe("backward", function()
    it("gives the derivative of a scalar", function()
      local x = leaf {1, 2, 3}
      local loss = (x * x):sum()
      loss:backward()
      assert.same({2, 4, 6}, x.grad:totable())
      assert.is_false(x.grad.requires_grad)
    end)

    it("adds to the gradient that is there", function()
      local x = leaf {1, 2, 3}
      for round = 1, 3 do
        (x * x):sum():backward()
        assert.same({2 * round, 4 * round, 6 * round}, x.grad:totable())
      end
      x.grad = nil
      assert.is_nil(x.grad)
      x:sum():backward()
      assert.same({1, 1, 1}, x.grad:totable())
    end)

    it("adds up over all paths", function()
      local x = leaf {3}
      local y = x * 2
      local loss = (y * y + y * x + x):sum()
      loss:backward()
      assert.same({4 * 2 * 3 + 2 * 2 * 3 + 1}, x.grad:totable())
    end)

    it("leaves constants and their branches without a gradient", function()
      local x, c = leaf {1, 2}, constant {3, 4}
      local y = c * 2
      assert.is_false(y.requires_grad);
      (x * y):sum():backward()
      assert.same({6, 8}, x.grad:totable())
      assert.is_nil(c.grad)
      assert.is_nil(y.grad)
    end)

    it("starts from the gradient given", function()
      local x = leaf {{1, 2}, {3, 4}};
      (x * 3):backward(constant {{1, 0}, {0, -1}})
      assert.same({{3, 0}, {0, -3}}, x.grad:totable())
    end)

    it("needs a gradient for more than one element", function()
      local x = leaf {1, 2}
      fails("backward: ", function() (x * 2):backward() end)
      fails("(2)", function() (x * 2):backward() end)
      assert.is_nil(x.grad)
    end)

    it("refuses a gradient of another shape, device or type", function()
      local x = leaf {1, 2}
      fails("(3)", function() (x * 2):backward(constant {1, 2, 3}) end)
      fails("backward: ", function() (x * 2):backward(7) end)
      fails("backward: ", function() (x * 2):backward({1, 2}) end)
      if device ~= "cpu" then fails("cpu", function() (x * 2):backward(fp8.tensor {1, 2}) end) end
      assert.is_nil(x.grad)
    end)

    it("refuses a tensor that requires no gradient", function()
      fails("does not require a gradient", function() constant({1}):sum():backward() end)
    end)

    it("works on a leaf", function()
      local x = leaf(5)
      x:backward()
      assert.equal(1, x.grad:item())
    end)

    it("releases the graph, and a second one is an error", function()
      local x = leaf {1, 2}
      local y = x * x
      local loss = y:sum()
      loss:backward()
      fails("retain_graph", function() loss:backward() end)
      fails("retain_graph", function() (y * 2):sum():backward() end)
      assert.same({2, 4}, x.grad:totable())
    end)

    it("keeps the graph with retain_graph", function()
      local x = leaf {1, 2}
      local loss = (x * x):sum()
      loss:backward(nil, {retain_graph = true})
      loss:backward(nil, {retain_graph = true})
      loss:backward()
      assert.same({6, 12}, x.grad:totable())
      fails("retain_graph", function() loss:backward() end)
    end)

    it("gives the gradient of 16-bit tensors in their dtype", function()
      for _, dtype in ipairs {"f16", "bf16"} do
        local x = fp8.tensor({1, 2, 3}, {device = device, dtype = dtype, requires_grad = true});
        (x * x):sum():backward()
        assert.equal(dtype, x.grad.dtype)
        assert.same({2, 4, 6}, x.grad:totable())
      end
    end)

    it("goes through conversions of dtype and device", function()
      local x = leaf {1, 2, 3}
      local y = x:to("bf16"):to("cpu"):to("f32")
      assert.equal("cpu", y.device);
      (y * y):sum():backward()
      assert.equal("f32", x.grad.dtype)
      assert.equal(x.device, x.grad.device)
      assert.same({2, 4, 6}, x.grad:totable())
    end)

    it("gives every leaf a gradient of its own", function()
      local a, b, c = leaf {1, 2}, leaf {1, 2}, leaf {{1, 2}}
      local grad = constant {1, 1};
      (a + b + c:view(2)):backward(grad)
      a.grad:add_(1)
      c.grad:mul_(5)
      assert.same({2, 2}, a.grad:totable())
      assert.same({1, 1}, b.grad:totable())
      assert.same({{5, 5}}, c.grad:totable())
      assert.same({1, 1}, grad:totable())
      assert.is_true(a.grad:is_contiguous() and c.grad:is_contiguous())
    end)

    it("keeps the gradient of an intermediate tensor with retain_grad", function()
      local x = leaf {1, 2}
      local y = x * 3
      assert.equal(y, y:retain_grad());
      (y * y):sum():backward()
      assert.same({6, 12}, y.grad:totable())
      assert.same({18, 36}, x.grad:totable())
    end)

    it("walks a graph of 20,000 operations", function()
      local x = leaf {1}
      local y = x
      for _ = 1, 20000 do y = y + 1 end
      y:sum():backward()
      assert.same({1}, x.grad:totable())
    end)

    it("visits every node of a wide graph once", function()
      local x = leaf {1}
      local y = x
      for _ = 1, 60 do y = (y + y) * 0.5 end -- 2^60 paths
      y:sum():backward()
      assert.same({1}, x.grad:totable())
    end)
  end)

  describe("An in-place change", function()
    it("of a tensor that a derivative needs is an error in backward", function()
      local x, c = leaf {1, 2}, constant {3, 4}
      local loss = (x * c):sum()
      c:add_(1)
      fails("changed in place", function() loss:backward() end)
      assert.is_nil(x.grad)
    end)

    it("through a view is noticed as well", function()
      local x, c = leaf {1, 2}, constant {3, 4}
      local loss = (x * c):sum()
      c:narrow(1, 1, 1):fill_(0)
      fails("changed in place", function() loss:backward() end)
    end)

    it("of a weight that the gradient of a layer's input needs is noticed", function()
      local layer = fp8.Linear(4, 2, {device = device})
      local x = fp8.ones(1, 4, {device = device, requires_grad = true})
      local y = layer(x)
      fp8.no_grad(function() layer.weight:mul_(10) end)
      fails("linear needs for its derivative was changed in place", function() y:sum():backward() end)
      assert.is_nil(x.grad)
      local z = layer(fp8.ones(1, 4, {device = device})) -- whose gradient nobody needs
      fp8.no_grad(function() layer.weight:mul_(10) end)
      z:sum():backward()
      assert.same({{1, 1, 1, 1}, {1, 1, 1, 1}}, layer.weight.grad:totable())
    end)

    it("of a tensor that no derivative needs does no harm", function()
      local x, c = leaf {1, 2}, constant {3, 4}
      local loss = (x + c):sum()
      c:fill_(0)
      loss:backward()
      assert.same({1, 1}, x.grad:totable())
    end)

    it("of a tensor that requires a gradient is refused, outside no_grad", function()
      local x = leaf {1, 2}
      fails("add_: ", function() x:add_(1) end)
      fails("fill_: ", function() (x * 2):fill_(0) end)
      fails("copy_: ", function() constant({0, 0}):copy_(x) end)
      assert.same({1, 2}, x:totable())
      fp8.no_grad(function() x:add_(1) end)
      assert.same({2, 3}, x:totable())
    end)
  end)

  describe("no_grad", function()
    it("calls a module, too, as fp8.scope does", function()
      local layer, x = fp8.Linear(3, 2), fp8.randn(4, 3)
      assert.is_true(layer(x).requires_grad)
      assert.is_false(fp8.no_grad(layer, x).requires_grad)
      support.equal(fp8.scope(layer, x):detach(), layer(x):detach())
      fails("no_grad: a function is needed, got table", fp8.no_grad, {})
      fails("scope: a function is needed, got userdata", fp8.scope, x)
    end)

    it("records nothing and returns what the function returns", function()
      local x = leaf {1, 2}
      local y, two, none = fp8.no_grad(function(a, b)
        local y = x * a
        return y, b, nil
      end, 3, 2)
      assert.is_false(y.requires_grad)
      assert.equal(2, two)
      assert.is_nil(none)
      assert.is_true((x * 2).requires_grad)
    end)

    it("passes errors through and records again afterwards", function()
      local x = leaf {1, 2}
      local mark = {}
      local ok, message = pcall(fp8.no_grad, function() error(mark) end)
      assert.is_false(ok)
      assert.equal(mark, message)
      fails("matmul: ", function() fp8.no_grad(function() x:matmul(leaf {1, 2, 3}) end) end)
      assert.is_true((x * 2).requires_grad)
    end)

    it("can't be left by a coroutine that yields", function()
      local x = leaf {1, 2}
      local generator = coroutine.wrap(function() fp8.no_grad(coroutine.yield, x) end)
      fails("attempt to yield", generator)
      assert.is_true((x * 2).requires_grad)
      local inner = coroutine.wrap(function() coroutine.yield(x * 2) end)
      assert.is_false(fp8.no_grad(inner).requires_grad)
    end)

    it("may be nested", function()
      local x = leaf {1, 2}
      fp8.no_grad(function()
        pcall(fp8.no_grad, function() error "inside" end)
        assert.is_false((x * 2).requires_grad)
      end)
      assert.is_true((x * 2).requires_grad)
    end)
  end)

  describe("requires_grad", function()
    it("is off unless asked for, and settable on float leaves", function()
      local x = constant {1, 2}
      assert.is_false(x.requires_grad)
      assert.equal(x, x:requires_grad_())
      assert.is_true(x.requires_grad)
      assert.is_true((x + 1).requires_grad)
      assert.is_false(x:detach().requires_grad)
      x:requires_grad_(false)
      assert.is_false((x + 1).requires_grad)
    end)

    it("is refused for integers", function()
      fails("i64", function() fp8.zeros(2, {dtype = "i64", device = device}):requires_grad_() end)
      fails("i32", function() fp8.zeros(2, {dtype = "i32", device = device, requires_grad = true}) end)
    end)

    it("is not passed on by comparisons and argmax", function()
      local x = leaf {1, 2}
      assert.is_false(x:gt(1).requires_grad)
      assert.is_false(x:argmax().requires_grad)
    end)

    it("is lost by detach, which shares the memory", function()
      local x = leaf {1, 2}
      local view = x:detach()
      view:fill_(7)
      assert.same({7, 7}, x:totable())
    end)
  end)
end)

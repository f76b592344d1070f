-- fp8.gradcheck: what it takes for right, and what it says of derivatives that are wrong.
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails

support.each_device(function(device)
  local on = {device = device}

  local function input(...) return fp8.randn({...}, on):requires_grad_() end

  --- A function whose gradient of the second input is off by a factor at one element.
  local wrong = fp8.Function {
    name = "wrong",
    forward = function(ctx, x, y)
      ctx:save(x, y)
      return x * y
    end,
    backward = function(ctx, grad)
      local x, y = ctx:saved()
      local dy = grad * x
      dy[2][1]:mul_(3)
      return grad * y, dy
    end,
  }

  describe("gradcheck", function()
    it("takes derivatives that are right, of any operations, views and several results", function()
      assert.is_true(fp8.gradcheck(function(x) return x:exp() * x:t():sum() end, input(2, 3)))
      assert.is_true(fp8.gradcheck(function(x, w, b) return fp8.layer_norm(x, w, b):tanh() end,
        {input(2, 8), input(8), input(8)}))
      assert.is_true(fp8.gradcheck(function(x) return x:sum(), x[1] * 2, x:square() end, input(2, 3)))
      assert.is_true(fp8.gradcheck(function(x) return x * x end, input()))
      assert.is_true(fp8.gradcheck(function(x) return x * 2 end, input(0, 3)))
      assert.is_true(fp8.gradcheck(fp8.Linear(4, 3, on), input(2, 4)))
      local transposed = fp8.randn(3, 2, on):t():requires_grad_()
      assert.is_true(fp8.gradcheck(function(x) return x:tanh() end, {transposed}))
      assert.is_true(fp8.gradcheck(function(x) return x * 1e4 end, (fp8.randn(3, on) * 1e4):requires_grad_()))
    end)

    it("passes other arguments through, holes among them", function()
      local labels = fp8.tensor({0, 2}, {dtype = "i64", device = device})
      assert.is_true(fp8.gradcheck(function(x, target, nothing, options)
        assert.is_nil(nothing)
        return fp8.cross_entropy(x, target, options)
      end, {[1] = input(2, 3), [2] = labels, [4] = {reduction = "sum"}}))
    end)

    it("says of which input and where a derivative is wrong, and what both sides are", function()
      local x, y = fp8.ones(2, 3, on):requires_grad_(), fp8.full({2, 3}, 2, on):requires_grad_()
      local _, message = pcall(fp8.gradcheck, wrong, {x, y})
      local part = "gradcheck: input 2 of shape (2, 3): 1 of 6 elements of its gradient are wrong; at {2, 1} " ..
        "backward gives "
      assert.is_truthy(message:find(part, 1, true), message)
      local found, expected = message:match "backward gives (%S+), differences give (%S+)"
      assert.near(tonumber(found), 3 * tonumber(expected), 1e-3)
      local ok, text = fp8.gradcheck(wrong, {x, y}, {raise_exception = false})
      assert.is_false(ok)
      assert.is_truthy(text:find(part, 1, true) == 1)
      assert.is_true(fp8.gradcheck(wrong, {x, y:detach()}))
      assert.is_true(fp8.gradcheck(wrong, {x, y}, {atol = 100}))
      assert.is_true(fp8.gradcheck(wrong, {x, y}, {atol = 0.1, rtol = 3}))
    end)

    it("notices a gradient that does not arrive", function()
      local lost = fp8.Function {
        name = "lost", forward = function(_, x) return x * 2 end, backward = function() return nil end,
      }
      fails("backward gives no gradient, differences give", fp8.gradcheck, lost, input(2))
    end)

    it("leaves inputs, their gradients and the random numbers alone", function()
      local x = input(3)
      local before = x:detach():clone()
      fp8.manual_seed(5)
      fp8.gradcheck(function(y) return y:exp() end, x)
      assert.same({fp8.random_state()}, (function()
        fp8.manual_seed(5)
        return {fp8.random_state()}
      end)())
      support.equal(x:detach(), before)
      assert.is_nil(x.grad)
      assert.is_true(fp8.no_grad(fp8.gradcheck, function(y) return y:exp() end, x))
    end)

    it("refuses what can't be checked", function()
      local x = input(3)
      local function double(y) return y * 2 end
      fails("gradcheck: a function or a module is needed, got nil", fp8.gradcheck, nil, x)
      fails("gradcheck: at least one input must be a tensor that requires a gradient", fp8.gradcheck, double,
        x:detach())
      fails("gradcheck: at least one input must be a tensor", fp8.gradcheck, double, {})
      fails("gradcheck: the inputs must be a tensor or a list of arguments, got number", fp8.gradcheck, double, 3)
      fails("gradcheck: input 1 is bf16: differences need f32", fp8.gradcheck, double,
        fp8.ones(2, on):to("bf16"):requires_grad_())
      fails("gradcheck: result 1 of the function must be a tensor, got number", fp8.gradcheck,
        function() return 3 end, x)
      fails("gradcheck: the function returns nothing", fp8.gradcheck, function() end, x)
      fails("gradcheck: result 2 of the function requires no gradient", fp8.gradcheck,
        function(y) return y, y:detach() end, x)
      fails("gradcheck: the function gives other values when it is called again", fp8.gradcheck,
        function(y) return fp8.dropout(y, 0.5) end, input(64))
      fails("gradcheck: unknown option epsilon", fp8.gradcheck, double, x, {epsilon = 1})
      fails("gradcheck: option eps must be a finite number above 0, got 0", fp8.gradcheck, double, x, {eps = 0})
      fails("gradcheck: option atol must be a finite number of at least 0, got -1", fp8.gradcheck, double, x,
        {atol = -1})
    end)
  end)
end)

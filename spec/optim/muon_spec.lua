-- Muon beside a slow reference in double, its groups, and what goes with every optimizer. pytorch_spec.lua compares
-- with PyTorch's.
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails

local function multiplied(a, b)
  local c = {}
  for i = 1, #a do
    c[i] = {}
    for j = 1, #b[1] do
      local sum = 0
      for k = 1, #b do sum = sum + a[i][k] * b[k][j] end
      c[i][j] = sum
    end
  end
  return c
end

local function transposed(a)
  local t = {}
  for j = 1, #a[1] do
    t[j] = {}
    for i = 1, #a do t[j][i] = a[i][j] end
  end
  return t
end

--- Lists of rows, elements combined by f.
local function mapped(f, a, b)
  local c = {}
  for i = 1, #a do
    c[i] = {}
    for j = 1, #a[1] do c[i][j] = f(a[i][j], b and b[i][j]) end
  end
  return c
end

--- The quintic iteration of Keller Jordan's zeropower_via_newtonschulz5, in double.
local function orthogonal(u, steps)
  local squares = 0
  mapped(function(value) squares = squares + value ^ 2 end, u)
  local norm = math.max(math.sqrt(squares), 1e-7)
  local x = mapped(function(value) return value / norm end, #u > #u[1] and transposed(u) or u)
  for _ = 1, steps do
    local gram = multiplied(x, transposed(x))
    local square = multiplied(gram, gram)
    local polynomial = mapped(function(g, s) return -4.7750 * g + 2.0315 * s end, gram, square)
    x = mapped(function(value, product) return 3.4445 * value + product end, x, multiplied(polynomial, x))
  end
  return #u > #u[1] and transposed(x) or x
end

local function follow(p, g, m, s)
  local momentum = s.momentum or 0.95
  m = mapped(function(old, grad) return momentum * old + (1 - momentum) * grad end, m, g)
  local u = m
  if s.nesterov ~= false then
    u = mapped(function(mean, grad) return momentum * mean + (1 - momentum) * grad end, m, g)
  end
  local rows, columns = #p, #p[1]
  local adjusted = s.adjust_lr_fn == "match_rms_adamw" and 0.2 * math.sqrt(math.max(rows, columns)) or
    math.sqrt(math.max(s.adjust_lr_fn and 0 or 1, rows / columns))
  return mapped(function(value, o)
    return value * (1 - s.lr * (s.weight_decay or 0.1)) - s.lr * adjusted * o
  end, p, orthogonal(u, s.ns_steps or 5)), m
end

support.each_device(function(device)
  local on = {device = device}

  local function parameter(shape, dtype) return fp8.randn(shape, on):to(dtype or "f32"):requires_grad_() end

  describe("Muon", function()
    for i, settings in ipairs {
      {lr = 0.1}, {lr = 0.1, nesterov = false, momentum = 0.5, weight_decay = 0},
      {lr = 0.1, adjust_lr_fn = "match_rms_adamw", ns_steps = 3}, {lr = 0.1, adjust_lr_fn = "spectral_unclamped"},
    } do
      it("follows the reference, but for what bf16 loses: settings " .. i, function()
        for _, shape in ipairs {{5, 5}, {12, 4}, {3, 11}, {1, 6}, {1, 1}} do
          local x = parameter(shape)
          local p, m = x:totable(), fp8.zeros(shape):totable()
          local optimizer = fp8.optim.Muon({x}, settings)
          for step = 1, 3 do
            x.grad = fp8.randn(shape, on) * 10 ^ step
            p, m = follow(p, x.grad:totable(), m, settings)
            optimizer:step()
            support.close(x:detach(), fp8.tensor(p), 2e-2)
            support.close(optimizer.state[1].momentum_buffer, fp8.tensor(m), 1e-5)
          end
        end
      end)
    end

    it("of many matrices at once is that of each, whatever their shapes and how many have one", function()
      local together, shapes = {}, {{4, 6}, {6, 4}, {3, 3}, {4, 6}, {0, 2}, {6, 4}, {2, 7}, {4, 6}, {3, 3}}
      for i, shape in ipairs(shapes) do
        together[i] = parameter(shape, ({"f32", "bf16", "f16"})[i % 3 + 1])
        together[i].grad = fp8.randn(shape, on):to(together[i].dtype)
      end
      local alone = {}
      for i, x in ipairs(together) do
        alone[i] = x:detach():clone():requires_grad_()
        alone[i].grad = x.grad
        fp8.optim.Muon({alone[i]}, {lr = 0.1}):step()
      end
      fp8.optim.Muon(together, {lr = 0.1}):step()
      for i, x in ipairs(together) do
        assert.is_true(x:numel() == 0 or support.error(x:detach():float(), alone[i]:detach():float()) < 5e-3)
      end
    end)

    it("makes every singular value one from 0.6 to 1.3, whatever the size of the gradient", function()
      for _, scale in ipairs {1e-4, 1, 1e25} do
        local x = fp8.zeros(8, 20, on):requires_grad_()
        x.grad = fp8.randn(8, 20, on) * scale
        fp8.optim.Muon({x}, {lr = 1, weight_decay = 0}):step()
        local squares = x:detach():matmul(x:detach():t()):totable()
        for i = 1, 8 do
          assert.is_true(squares[i][i] > 0.36 and squares[i][i] < 1.7)
          for j = 1, i - 1 do assert.is_true(math.abs(squares[i][j]) < 0.35) end
        end
      end
    end)

    it("updates the parameters of groups with use_muon = false as AdamW does, moments in 8 bits included", function()
      local state = {format = "e4m3", smallest = 0}
      local matrix, bias = parameter {4, 6}, parameter {300}
      local twin = bias:detach():clone():requires_grad_()
      local optimizer = fp8.optim.Muon {
        {params = {matrix}, lr = 0.02},
        {params = {bias}, use_muon = false, lr = 0.01, weight_decay = 0.3, state = state},
      }
      local other = fp8.optim.AdamW({twin}, {lr = 0.01, weight_decay = 0.3, state = state})
      for _ = 1, 3 do
        matrix.grad, bias.grad = fp8.randn(4, 6, on), fp8.randn(300, on)
        twin.grad = bias.grad
        optimizer:step()
        other:step()
      end
      support.same_bytes(bias:detach(), twin:detach())
      assert.equal("e4m3", optimizer.state[2].first_moment.dtype)
    end)

    it("rounds 16-bit parameters from masters, or at random", function()
      for _, dtype in ipairs {"bf16", "f16"} do
        local wide = parameter {6, 5}
        local start = wide:detach():to(dtype)
        fp8.no_grad(function() wide:copy_(start) end)
        local x, y = start:clone():requires_grad_(), start:clone():requires_grad_()
        local settings = {lr = 1e-4, weight_decay = 0}
        local exact = fp8.optim.Muon({wide}, settings)
        local masters = fp8.optim.Muon({x}, {lr = 1e-4, weight_decay = 0, master_weights = true})
        local random = fp8.optim.Muon({y}, {lr = 1e-4, weight_decay = 0, rounding = "stochastic"})
        for _ = 1, 40 do
          local grad = fp8.randn(6, 5, on):to(dtype)
          wide.grad, x.grad, y.grad = grad:float(), grad, grad
          exact:step()
          masters:step()
          random:step()
        end
        local moved = wide:detach() - start
        assert.is_true(support.error(masters.state[1].master - start, moved) < 2e-2)
        support.equal(x:detach(), masters.state[1].master:to(dtype))
        assert.is_true(support.error(y:detach() - start, moved) > 0)
        assert.is_true((y:detach() - start):ne(0):any():item() == 1)
      end
    end)

    it("goes on from a state_dict bit for bit", function()
      fp8.set_deterministic(true)
      finally(function() fp8.set_deterministic(false) end)
      local function build()
        local layer = fp8.Linear(7, 9, on)
        return layer, fp8.optim.Muon({{params = {layer.weight}}, {params = {layer.bias}, use_muon = false, lr = 0.01}},
          {lr = 0.05, adjust_lr_fn = "match_rms_adamw"})
      end
      local function train(layer, optimizer)
        for step = 1, 3 do
          fp8.manual_seed(step)
          layer.weight.grad, layer.bias.grad = fp8.randn(9, 7, on), fp8.randn(9, on)
          optimizer:step()
        end
      end
      local layer, optimizer = build()
      train(layer, optimizer)
      local other, resumed = build()
      resumed.adjust_lr_fn, resumed.lr = "original", 7
      other:load_state_dict(layer:state_dict())
      resumed:load_state_dict(optimizer:state_dict())
      train(layer, optimizer)
      train(other, resumed)
      support.same_bytes(other.weight:detach(), layer.weight:detach())
      support.same_bytes(other.bias:detach(), layer.bias:detach())
    end)

    it("shows a NaN, and takes matrices without elements and gradients of 0", function()
      local x, empty, still = parameter {3, 4}, parameter {0, 4}, parameter {2, 2}
      local before = still:detach():clone()
      x.grad, empty.grad, still.grad = fp8.randn(3, 4, on), fp8.zeros(0, 4, on), fp8.zeros(2, 2, on)
      x.grad[2]:fill_(0 / 0)
      fp8.optim.Muon({x, empty, still}, {lr = 0.1, weight_decay = 0}):step()
      assert.equal(1, x:isnan():all():item())
      support.equal(still:detach(), before)
    end)
  end)
end)

describe("Muon refuses", function()
  local matrix, bias = fp8.zeros(2, 3, {requires_grad = true}), fp8.zeros(3, {requires_grad = true})

  it("what is no matrix, and says where it belongs", function()
    fails("Muon: parameter 2 has shape (3) and is no matrix: put it into a group with use_muon = false",
      fp8.optim.Muon, {matrix, bias})
    fails("Muon: group 1: parameter 1 has shape (3)", fp8.optim.Muon, {{params = {bias}}, {params = {matrix}}})
  end)

  it("settings that are wrong, or another rule's", function()
    fails("Muon: option ns_steps must be a whole number from 1 to 99, got 0", fp8.optim.Muon, {matrix}, {ns_steps = 0})
    fails('Muon: option adjust_lr_fn must be "original", "match_rms_adamw" or "spectral_unclamped", got text',
      fp8.optim.Muon, {matrix}, {adjust_lr_fn = "text"})
    fails("Muon: group 1: option beta1 is for groups with use_muon = false", fp8.optim.Muon,
      {{params = {matrix}, beta1 = 0.5}, {params = {bias}, use_muon = false}})
    fails("Muon: group 2: option momentum is for groups with use_muon = true", fp8.optim.Muon,
      {{params = {matrix}}, {params = {bias}, use_muon = false, momentum = 0.5}})
    fails("Muon: option state is for groups with use_muon = false", fp8.optim.Muon, {matrix},
      {state = {format = "e4m3"}})
    local optimizer = fp8.optim.Muon {matrix}
    optimizer.use_muon = false
    matrix.grad = fp8.ones(2, 3)
    fails("Muon: use_muon can't be changed after the optimizer was made", optimizer.step, optimizer)
    matrix.grad = nil
  end)
end)

if fp8.cuda.is_available() then
  describe("A graph of Muon", function()
    it("follows lr and weight_decay, and refuses other changes", function()
      local function build()
        fp8.manual_seed(3)
        local x = fp8.randn(6, 4, {device = "cuda"}):requires_grad_()
        x.grad = fp8.randn(6, 4, {device = "cuda"})
        local optimizer = fp8.optim.Muon({x}, {lr = 0.1})
        return x, optimizer, function() optimizer:step() end
      end
      local x, optimizer, step = build()
      local y, eager, eager_step = build()
      step = fp8.cuda.graph(step)
      eager_step()
      for i = 1, 3 do
        optimizer.lr, optimizer.weight_decay = 0.1 * i, 0.05 * i
        eager.lr, eager.weight_decay = 0.1 * i, 0.05 * i
        step()
        eager_step()
        support.close(x:detach(), y:detach(), 1e-5)
        support.close(optimizer.state[1].momentum_buffer, eager.state[1].momentum_buffer, 1e-6)
      end
      assert.equal(4, optimizer.state[1].steps)
      optimizer.momentum = 0.5
      local before = x:detach():clone()
      fails("Muon's option momentum was changed since it was captured", step)
      support.equal(x:detach(), before)
      assert.equal(4, optimizer.state[1].steps)
    end)
  end)
end

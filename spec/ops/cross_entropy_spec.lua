-- Cross entropy against a reference in plain Lua (float64): reductions, ignored rows, smoothed and weighed targets,
-- values and gradients, and targets that are refused. (nn/pytorch_spec compares with PyTorch.)
local core = require "fp8.core"
local fp8 = require "fp8"
local support = require "spec.support"
local reference = require "spec.support.reference.cross_entropy"

local epsilon = {f32 = 1e-6, f16 = 1e-3, bf16 = 8e-3} -- rounding of a gradient, with a little for the sums

--- Logits (rows, classes) that require a gradient, labels as numbers with some of `ignored` among them, and weights.
local function make(rows, classes, dtype, device, ignored)
  local random, labels = support.random(rows * classes), {}
  for i = 1, rows do labels[i] = ignored and random(3) == 1 and ignored or random(classes) - 1 end
  local logits = (fp8.randn(rows, classes, {device = device}) * 3):to(dtype):requires_grad_()
  local targets = fp8.tensor(labels, {dtype = "i64", device = device})
  return logits, labels, targets, fp8.rand(classes, {device = device}) + 0.1
end

local function options_of(c, weight, reduction)
  return {
    reduction = reduction, ignore_index = c.ignored, label_smoothing = c.smoothing,
    class_weight = c.weighed and weight or nil,
  }
end

local cases = {
  {name = "a label a row"},
  {name = "ignored rows", ignored = -100},
  {name = "an ignored class", ignored = 2},
  {name = "smoothing", smoothing = 0.1},
  {name = "weights", weighed = true},
  {name = "everything", ignored = -1, smoothing = 0.3, weighed = true},
  {name = "nothing but smoothing", smoothing = 1, weighed = true},
}

support.each_device(function(device)
  describe("cross_entropy", function()
    for _, dtype in ipairs {"f32", "f16", "bf16"} do
      for _, c in ipairs(cases) do
        it(("of %s with %s is what the formula says, and its gradient"):format(dtype, c.name), function()
          for _, shape in ipairs {{7, 5}, {3, 264}, {4, 1030}, {3, 4104}} do
            local logits, labels, targets, weight = make(shape[1], shape[2], dtype, device, c.ignored)
            for _, reduction in ipairs {"mean", "sum", "none"} do
              local rule = {
                ignored = c.ignored, smoothing = c.smoothing, weight = c.weighed and weight:totable() or nil,
                reduction = reduction,
              }
              local upstream = fp8.rand(reduction == "none" and {shape[1]} or {}, {device = device})
              local loss, grad = reference(logits:detach():float():totable(), labels, rule, upstream:totable())
              logits.grad = nil
              local y = fp8.cross_entropy(logits, targets, options_of(c, weight, reduction))
              support.close(y:detach(), fp8.tensor(loss), 1e-5)
              y:backward(upstream)
              assert.equal(dtype, logits.grad.dtype)
              support.close(logits.grad, fp8.tensor(grad), 2 * epsilon[dtype])
              -- Of another kernel, which adds up in another order.
              support.close(fp8.no_grad(fp8.cross_entropy, logits, targets, options_of(c, weight, reduction)),
                y:detach(), 1e-6)
            end
          end
        end)
      end
    end

    it("made with its gradient at once, in place or not, is the same as in two passes", function()
      for _, dtype in ipairs {"f32", "f16", "bf16"} do
        for _, columns in ipairs {1, 8, 33, 1024, 1032, 5000, 70000} do
          local logits, _, targets, weight = make(5, columns, dtype, device, -100)
          logits = logits:detach()
          for _, rule in ipairs {{ignored = -100}, {ignored = -100, smoothing = 0.2, weight = weight}} do
            local dloss = fp8.rand(1, {device = device}):expand(5)
            local losses, statistics = core.cross_entropy(logits, targets, rule)
            local grad = core.cross_entropy_backward(logits, targets, statistics, dloss, rule)
            local again, at_once = core.cross_entropy(logits, targets, rule, dloss)
            support.close(again, losses, 1e-6)
            support.close(at_once, grad, epsilon[dtype])
            local x = logits:clone()
            local third, same = core.cross_entropy(x, targets, rule, dloss, true)
            assert.equal(x, same)
            support.same_bytes(third, again)
            support.same_bytes(x, at_once)
          end
        end
      end
    end)

    it("counts nothing of ignored rows, not even a NaN, and is NaN without any other", function()
      local logits = fp8.randn(4, 2000, {device = device})
      logits[2]:fill_(0 / 0)
      logits:requires_grad_()
      local targets = fp8.tensor({5, -100, 7, -100}, {dtype = "i64", device = device})
      for _, reduction in ipairs {"mean", "sum"} do
        logits.grad = nil
        local loss = fp8.cross_entropy(logits, targets, {ignore_index = -100, reduction = reduction})
        assert.is_true(loss:item() == loss:item())
        loss:backward()
        assert.equal(0, logits.grad[2]:abs():max():item())
        assert.equal(0, logits.grad[4]:abs():max():item())
      end
      logits.grad = nil
      local none = fp8.full({4}, -100, {dtype = "i32", device = device})
      local loss = fp8.cross_entropy(logits, none, {ignore_index = -100})
      loss:backward()
      assert.is_true(loss:item() ~= loss:item())
      assert.equal(0, logits.grad:abs():max():item())
      assert.equal(0, fp8.cross_entropy(logits, none, {ignore_index = -100, reduction = "sum"}):item())
    end)

    it("takes large logits and ones that are far from each other", function()
      local rows = {{1e4, 1e4 + 1, 1e4 - 1}, {-1e38, 0, 1e38}, {-math.huge, 1, 2}}
      local logits = fp8.tensor(rows, {device = device})
      for label = 0, 2 do
        local targets = fp8.full({3}, label, {dtype = "u8", device = device})
        for _, smoothing in ipairs {0, 0.5} do
          local losses = fp8.cross_entropy(logits, targets,
            {reduction = "none", label_smoothing = smoothing}):totable()
          local expected = reference({rows[1]}, {label}, {smoothing = smoothing})
          assert.is_true(math.abs(losses[1] - expected) < 1e-3)
          assert.is_true(losses[2] >= 0)
          assert.equal((label == 0 or smoothing > 0) and math.huge, losses[3] == math.huge and losses[3])
        end
      end
    end)

    it("is differentiated as often as its graph is kept for", function()
      for _, dtype in ipairs {"f32", "f16"} do
        local logits, _, targets = make(3, 11, dtype, device)
        local loss = fp8.cross_entropy(logits, targets)
        loss:backward(nil, {retain_graph = true})
        local first = logits.grad:clone()
        logits.grad = nil
        loss:backward(fp8.full({}, 3, {device = device}), {retain_graph = true})
        support.close(logits.grad, (first * 3):detach(), 2 * epsilon[dtype])
        loss:backward()
        support.close(logits.grad, (first * 4):detach(), 2 * epsilon[dtype])
        support.fails("released", function() loss:backward() end)
      end
    end)

    it("keeps what a loss scale saves in f16", function()
      local logits = fp8.zeros(16384, 7, {device = device}):half():requires_grad_()
      local targets = fp8.zeros(16384, {dtype = "i64", device = device})
      fp8.cross_entropy(logits, targets):backward(fp8.full({}, 16384, {device = device}))
      support.close(logits.grad:select(2, 2), fp8.full({16384}, 1 / 7), 1e-3)
    end)

    it("refuses targets out of range", function()
      for _, requires_grad in ipairs {false, true} do
        local logits = fp8.zeros(2, 3, {device = device, requires_grad = requires_grad})
        for _, wrong in ipairs {3, -1, 2 ^ 40} do
          local targets = fp8.tensor({0, wrong}, {dtype = "i64", device = device})
          for _, options in ipairs {{}, {ignore_index = -100}, {class_weight = fp8.ones(3, {device = device})}} do
            support.fails("out of range", function() fp8.cross_entropy(logits, targets, options):item() end)
          end
        end
        local targets = fp8.zeros(2, {dtype = "i64", device = device})
        assert.is_true(math.abs(fp8.cross_entropy(logits, targets):item() - math.log(3)) < 1e-6)
      end
    end)

    it("refuses options that are none", function()
      local logits, _, targets = make(3, 4, "f32", device)
      local function refuses(text, options)
        support.fails(text, function() fp8.cross_entropy(logits, targets, options) end)
        support.fails(text, function() fp8.cross_entropy(logits:detach(), targets, options) end)
      end
      refuses("cross_entropy: option ignore_index must be an integer, got 1.5", {ignore_index = 1.5})
      refuses("cross_entropy: option ignore_index must be an integer, got x", {ignore_index = "x"})
      refuses("cross_entropy: label smoothing must be from 0 to 1, got 1.5", {label_smoothing = 1.5})
      refuses("cross_entropy: label smoothing must be from 0 to 1", {label_smoothing = 0 / 0})
      refuses("cross_entropy: option class_weight must be a tensor, got number", {class_weight = 1})
      refuses("weights of shape (4)", {class_weight = fp8.ones(3, {device = device})})
      refuses("shape (classes), got (4, 1)", {class_weight = fp8.ones(4, 1, {device = device})})
      refuses("can't require a gradient", {class_weight = fp8.ones(4, {device = device, requires_grad = true})})
    end)
  end)
end)

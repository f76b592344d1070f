-- Losses against PyTorch: results and all gradients (spec/fixtures/losses.py).
local fp8 = require "fp8"
local support = require "spec.support"
local layer_cases = require "spec.support.layer_cases"

local fails = support.fails
local tensors = fp8.load(support.fixture "losses.safetensors")

local function part_of(case, part) return layer_cases.part_of(tensors, case, part) end

-- By case: the function and its options.
local cases = {
  mse_loss = {fp8.mse_loss, {}},
  l1_loss = {fp8.l1_loss, {}},
  binary_cross_entropy_with_logits = {fp8.binary_cross_entropy_with_logits, {}},
  ["binary_cross_entropy_with_logits.weights"] = {fp8.binary_cross_entropy_with_logits, {}},
  kl_div = {fp8.kl_div, {}},
  ["kl_div.log_target"] = {fp8.kl_div, {log_target = true}},
  nll_loss = {fp8.nll_loss, {}},
  ["nll_loss.options"] = {fp8.nll_loss, {ignore_index = 2}},
  ["nll_loss.image"] = {fp8.nll_loss, {ignore_index = 3}},
}
for _, value in ipairs {1, 0.3, 2.5} do
  cases["smooth_l1_loss." .. value] = {fp8.smooth_l1_loss, {beta = value}}
  cases["huber_loss." .. value] = {fp8.huber_loss, {delta = value}}
end

local function close(actual, expected, limit)
  support.close(actual:detach():to{device = "cpu", dtype = "f32"}, expected, limit)
end

--- Every second column of a tensor twice as wide: the same elements as a view.
local function as_view(x)
  if x:dim() == 0 or x.dtype == "i64" then return x end
  return fp8.stack({x, fp8.zeros_like(x)}, x:dim() + 1):select(x:dim() + 1, 1):detach()
end

--- Compares a case in a dtype, whose rounded inputs may move results by some of its tolerance.
local function compare(case, reduction, device, dtype)
  local full = case .. "." .. reduction
  local inputs, options = part_of(full, "in"), {reduction = reduction}
  for name, value in pairs(cases[case][2]) do options[name] = value end
  for name, tensor in support.sorted_pairs(inputs) do
    local moved = as_view(tensor:to{device = device, dtype = tensor.dtype == "f32" and dtype or nil})
    inputs[name] = part_of(full, "grad")[name] and moved:requires_grad_() or moved
  end
  options.weight, options.pos_weight = inputs.weight, inputs.pos_weight
  local y = cases[case][1](inputs.x, inputs.target, options)
  assert.equal(dtype, y.dtype)
  local limit = support.tolerance[dtype] * (dtype == "f32" and 1 or 4)
  close(y, tensors[full .. ".y"], limit)
  y:backward(tensors[full .. ".dy"]:to{device = device, dtype = dtype})
  for name, grad in support.sorted_pairs(part_of(full, "grad")) do
    assert.equal(dtype, inputs[name].grad.dtype)
    close(inputs[name].grad, grad, limit)
  end
end

support.each_device(function(device)
  local on = {device = device}
  local function tensor(list, requires_grad)
    return fp8.tensor(list, {device = device, requires_grad = requires_grad})
  end
  local function labels(list) return fp8.tensor(list, {device = device, dtype = "i64"}) end

  describe("Losses", function()
    for case in support.sorted_pairs(cases) do
      for _, reduction in ipairs {"mean", "sum", "none"} do
        it(("are PyTorch's: %s, %s"):format(case, reduction), function()
          compare(case, reduction, device, "f32")
        end)
      end
    end

    it("are PyTorch's in 16 bits", function()
      for case in support.sorted_pairs(cases) do
        for _, dtype in ipairs {"f16", "bf16"} do
          -- Which side of a kink an element is on depends on its last bits.
          if not case:find "smooth" and not case:find "huber" then compare(case, "none", device, dtype) end
        end
      end
    end)

    it("are computed in f32 and rounded once", function()
      for _, dtype in ipairs {"f16", "bf16"} do
        local x, target = fp8.randn(40, on):to(dtype), fp8.randn(40, on):to(dtype)
        for _, name in ipairs {"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"} do
          support.same_bytes(fp8[name](x, target), fp8[name](x:float(), target:float()):to(dtype))
        end
        assert.equal("f32", fp8.mse_loss(x, target:float()).dtype)
      end
    end)

    it("are stable for large logits", function()
      local x = tensor({1000, -1000, 1000, -1000, -20}, true)
      local y = fp8.binary_cross_entropy_with_logits(x, tensor {1, 0, 0, 1, 0}, {reduction = "none"})
      support.close(y, fp8.tensor {0, 0, 1000, 1000, 0})
      assert.is_true(math.abs(y[5]:item() / 2.0611536e-9 - 1) < 1e-5)
      y:sum():backward()
      support.close(x.grad, fp8.tensor {0, 0, 1, -1, 2.0611536e-9})
      for _, name in ipairs {"smooth_l1_loss", "huber_loss"} do
        x = tensor({1e30, -1e30, math.huge}, true)
        y = fp8[name](x, fp8.zeros(3, on), {reduction = "none"})
        support.equal(y, fp8.tensor {1e30, 1e30, math.huge})
        y:sum():backward()
        support.equal(x.grad, fp8.tensor {1, -1, 1})
      end
    end)

    it("have the derivatives of PyTorch at kinks", function()
      for name, expected in support.sorted_pairs {
        l1_loss = {0, 1, -1}, smooth_l1_loss = {0, 1, -1}, huber_loss = {0, 1, -1},
      } do
        local x = tensor({2, 3, 1}, true)
        fp8[name](x, fp8.full({3}, 2, on), {reduction = "sum"}):backward()
        assert.same(expected, x.grad:totable())
      end
      local x = tensor({1, 2}, true)
      fp8.smooth_l1_loss(x, tensor {1, 4}, {beta = 0, reduction = "sum"}):backward()
      assert.same({0, -1}, x.grad:totable())
    end)

    it("give 0 for probabilities of 0", function()
      local x, target = tensor({-1, -2}, true), tensor({0, 1}, true)
      local y = fp8.kl_div(x, target, {reduction = "none"})
      assert.same({0, 2}, y:totable())
      y:sum():backward()
      assert.same({0, -1}, x.grad:totable())
      assert.same({1, 3}, target.grad:totable())
      y = fp8.kl_div(fp8.zeros(4, 2, on), fp8.ones(4, 2, on) * math.exp(1), {reduction = "batchmean"})
      support.close(y, fp8.tensor(2 * math.exp(1)))
    end)

    it("ignore rows whatever they hold, and labels that are no class", function()
      local x = tensor({{-1, -2}, {0 / 0, math.huge}, {-3, -4}}, true)
      local target = labels {1, -100, 0}
      local y = fp8.nll_loss(x, target, {ignore_index = -100})
      assert.equal(2.5, y:item())
      y:backward()
      support.equal(x.grad, fp8.tensor {{0, -0.5}, {0, 0}, {-0.5, 0}})
      support.equal(fp8.nll_loss(x, target, {ignore_index = -100, reduction = "none"}), fp8.tensor {2, 0, 3})
      support.equal(fp8.nll_loss(x, labels {7, 7, 7}, {ignore_index = 7}), fp8.tensor(0 / 0))
      assert.equal(3, fp8.nll_loss(tensor {-1, -3}, fp8.tensor(1, {device = device, dtype = "i64"})):item())
    end)

    it("have derivatives for weights", function()
      local x, target = fp8.randn(2, 3, on), fp8.rand(2, 3, on)
      local weight = fp8.ones(3, {device = device, requires_grad = true})
      local pos_weight = fp8.ones(3, {device = device, requires_grad = true})
      local function logistic(options) return fp8.binary_cross_entropy_with_logits(x, target, options) end
      logistic({weight = weight, pos_weight = pos_weight, reduction = "sum"}):backward()
      support.close(weight.grad, logistic({reduction = "none"}):sum(1))
      support.close(pos_weight.grad, (target * (-x):softplus()):sum(1))
      -- Σ w·l / Σ w
      local labels_of, scores = labels {0, 2, 2, 1}, fp8.randn(4, 3, on):log_softmax(2)
      local class_weight = tensor({1, 2, 4}, true)
      local loss = fp8.nll_loss(scores, labels_of, {weight = class_weight, ignore_index = 1})
      loss:backward()
      local each = fp8.nll_loss(scores, labels_of, {reduction = "none"}):totable()
      local mean = loss:item()
      support.close(class_weight.grad, fp8.tensor {(each[1] - mean) / 9, 0, (each[2] + each[3] - 2 * mean) / 9})
    end)

    it("agree with cross_entropy", function()
      local logits, target = fp8.randn(6, 9, on), fp8.randint(0, 9, {6}, on)
      local weight = fp8.rand(9, on)
      support.close(fp8.nll_loss(logits:log_softmax(2), target, {weight = weight}),
        fp8.cross_entropy(logits, target, {class_weight = weight}))
    end)

    it("take tensors without dimensions and without elements", function()
      for _, name in ipairs {
        "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy_with_logits", "kl_div",
      } do
        local f = fp8[name]
        assert.same({}, f(tensor(3), tensor(1), {reduction = "none"}).shape)
        local x = fp8.zeros(0, 3, {device = device, requires_grad = true})
        local empty = fp8.zeros(0, 3, on)
        assert.same({0, 3}, f(x, empty, {reduction = "none"}).shape)
        support.equal(f(x, empty), fp8.tensor(0 / 0))
        local sum = f(x, empty, {reduction = "sum"})
        assert.equal(0, sum:item())
        sum:backward()
        assert.same({0, 3}, x.grad.shape)
      end
      local x = fp8.zeros(0, 3, on)
      assert.equal(0, fp8.nll_loss(x, fp8.zeros(0, {device = device, dtype = "i64"}), {reduction = "sum"}):item())
    end)

    it("take integer targets", function()
      local x = tensor({0.5, 2}, true)
      fp8.mse_loss(x, labels {1, 0}):backward()
      assert.same({-0.5, 2}, x.grad:totable())
      fp8.binary_cross_entropy_with_logits(x, labels({1, 0}):to "u8"):backward()
    end)

    it("say what is wrong", function()
      local x, y = fp8.zeros(3, 1, on), fp8.zeros(3, on)
      fails("mse_loss: the input has shape (3, 1), the target (3): reshape or expand one", fp8.mse_loss, x, y)
      fails("l1_loss: argument 2: tensor expected, got number", fp8.l1_loss, y, 1)
      fails("l1_loss: argument 1: tensor expected, got nil", fp8.l1_loss)
      fails("huber_loss: unknown option beta", fp8.huber_loss, y, y, {beta = 1})
      fails("huber_loss: option delta must be a finite number above 0, got 0", fp8.huber_loss, y, y, {delta = 0})
      fails("smooth_l1_loss: option beta must be a finite number of at least 0, got -1", fp8.smooth_l1_loss, y, y,
        {beta = -1})
      fails("smooth_l1_loss: option beta must be a number, got string", fp8.smooth_l1_loss, y, y, {beta = "1"})
      fails("mse_loss: reduction must be mean, sum or none, got batchmean", fp8.mse_loss, y, y,
        {reduction = "batchmean"})
      fails("kl_div: reduction must be mean, sum or none (or batchmean), got false", fp8.kl_div, y, y,
        {reduction = false})
      fails("mse_loss: options must be a table, got string", fp8.mse_loss, y, y, "sum")
      fails("mse_loss: the input must be f32, f16 or bf16, got i64", fp8.mse_loss, labels {1}, labels {1})
      local logistic = fp8.binary_cross_entropy_with_logits
      fails("option pos_weight of shape (2) does not broadcast to the input's (3)", logistic, y, y,
        {pos_weight = fp8.ones(2, on)})
      fails("option weight of shape (3, 3) does not broadcast", logistic, y, y, {weight = fp8.ones(3, 3, on)})
      fails("option weight must be a tensor, got number", logistic, y, y, {weight = 2})
      local scores = fp8.zeros(2, 4, on)
      fails("nll_loss: the target of an input of shape (2, 4) must have shape (2), got (4)", fp8.nll_loss, scores,
        labels {1, 2, 3, 4})
      fails("nll_loss: the target must be class labels, integers from 0; got f32", fp8.nll_loss, scores, y)
      fails("nll_loss: option weight must have shape (4), one a class, got (2)", fp8.nll_loss, scores, labels {1, 2},
        {weight = fp8.ones(2, on)})
      fails("nll_loss: option ignore_index must be an integer, got 0.5", fp8.nll_loss, scores, labels {1, 2},
        {ignore_index = 0.5})
      fails("nll_loss: the input must have a dimension of classes", fp8.nll_loss, tensor(1), labels {1})
      if device == "cpu" then
        fails("4", fp8.nll_loss, scores, labels {1, 4})
        fails("-100", fp8.nll_loss, scores, labels {1, -100})
      else
        fails("the target on cpu", fp8.mse_loss, y, fp8.zeros(3, {device = "cpu"}))
      end
    end)
  end)
end)

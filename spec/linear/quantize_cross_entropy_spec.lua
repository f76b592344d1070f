-- Codes of the gradient of cross-entropy, made from the logits, beside those of the gradient itself. Tensors are larger
-- than those that one launch quantizes, and of sides that the fused kernel takes, or does not.
local core = require "fp8.core"
local fp8 = require "fp8"
local support = require "spec.support"

local same_bytes = support.same_bytes

support.each_device(function(device)
  local on = {device = device}

  -- Both ways, of logits with targets; returns the scale.
  local function check(logits, targets, rule, history, format)
    local quantizer, dloss = core.quantizer {format = format or "e5m2"}, fp8.rand(core.size(logits, 1), on)
    local separate_history = history and history:clone()
    local separate = logits:clone()
    local expected_losses, gradient = core.cross_entropy(separate, targets, rule, dloss, true)
    gradient = gradient:clone() -- with which nothing is noted
    local known = history and core.delayed_scale(gradient, separate_history, quantizer, true) or nil
    local expected = {core.quantize(gradient, quantizer, "codes scale transposed", {known = known})}
    local losses, codes, scale, transposed = core.quantize_cross_entropy(logits, targets, rule, dloss, quantizer,
      "codes scale transposed", nil, history, history and true or nil)
    same_bytes(expected_losses, losses)
    same_bytes(expected[2], scale)
    if scale:isnan():item() == 0 then
      same_bytes(expected[1], codes)
      same_bytes(expected[3], transposed)
    end
    if history then same_bytes(separate_history, history) end
    return scale
  end

  describe("quantizing the gradient of cross-entropy", function()
    before_each(function() fp8.manual_seed(21) end)

    local shapes = {{1040, 1040}, {48, 32000}, {1041, 1030}, {16, 32}}

    for _, dtype in ipairs {"bf16", "f16", "f32"} do
      for _, shape in ipairs(shapes) do
        it(("gives the codes of the gradient: %s %d x %d"):format(dtype, shape[1], shape[2]), function()
          local rows, classes = unpack(shape)
          local function random() return (fp8.randn({rows, classes}, on) * 3):to(dtype) end
          local targets = fp8.randint(0, classes, {rows}, {dtype = "i64", device = device})
          check(random(), targets)
          check(random(), targets, {smoothing = 0.1, weight = fp8.rand(classes, on) + 0.5}, nil, "e4m3")
          targets:narrow(1, 3, 9):fill_(7)
          check(random(), targets, {ignored = 7, smoothing = 0.05})
          local history = fp8.zeros(3, on)
          for _ = 1, 3 do check(random(), targets, nil, history) end
          assert.is_true(history:min():item() > 0)
        end)
      end
    end

    it("gives NaN for what is not finite, and keeps the history", function()
      local logits = fp8.randn({1040, 1040}, on):to "bf16"
      local targets, history = fp8.zeros({1040}, {dtype = "i64", device = device}), fp8.ones(2, on)
      logits:narrow(1, 1000, 1):narrow(2, 500, 1):fill_(math.huge)
      assert.are.equal(1, check(logits, targets, nil, history):isnan():item())
      assert.are.same({1, 1}, history:totable())
    end)

    it("is what a layer with a recipe does in its loss", function()
      for _, recipe in ipairs {"global_native", "delayed"} do
        local function layer()
          fp8.manual_seed(4)
          return fp8.Linear(64, 2048, {bias = false, recipe = recipe, dtype = "bf16", device = device})
        end
        local fused, separate = layer(), layer()
        local targets = fp8.randint(0, 2048, {544}, {dtype = "i64", device = device})
        local values = fp8.randn({544, 64}, on):to "bf16"
        local x, other = values:clone():requires_grad_(), values:clone():requires_grad_()
        local loss, expected = fused:cross_entropy(x, targets), fp8.cross_entropy(separate(other), targets)
        loss:backward()
        expected:backward()
        same_bytes(expected, loss)
        same_bytes(other.grad, x.grad)
        same_bytes(separate.weight.grad, fused.weight.grad)
      end
    end)

    it("refuses what it can't do", function()
      local logits, targets = fp8.randn({4, 8}, on), fp8.zeros({4}, {dtype = "i64", device = device})
      local quantizer, dloss = core.quantizer {format = "e4m3"}, fp8.rand(4, on)
      support.fails("the scale is found here, and is one of the outputs", core.quantize_cross_entropy, logits, targets,
        nil, dloss, quantizer, "codes")
      support.fails("logits (n, classes) and targets (n) are needed", core.quantize_cross_entropy, logits,
        targets:narrow(1, 1, 3), nil, dloss, quantizer, "codes scale")
      support.fails("history must be contiguous, f32", core.quantize_cross_entropy, logits, targets, nil, dloss,
        quantizer, "codes scale", nil, targets)
    end)
  end)
end)

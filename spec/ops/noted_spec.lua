-- What quantizing and sums take from whoever wrote a tensor, its largest magnitudes and column sums, beside what they
-- find themselves: a copy of a tensor has nothing noted with it. Tensors are larger than what one launch quantizes.
local core = require "fp8.core"
local fp8 = require "fp8"
local support = require "spec.support"

local same_bytes = support.same_bytes

local rows, columns = 1072, 1024
local map = fp8.create_map(true, 4, 3, 8)
local quantizers = {
  e4m3 = core.quantizer {format = "e4m3"}, e5m2 = core.quantizer {format = "e5m2"}, map = core.quantizer {format = map},
}

-- Sums of many terms, by another order.
local function check_sum(found, expected, y)
  local most = y:to("f32"):abs():sum(1):max():item()
  if not (most < math.huge) then return end
  local far = (found:to "f32" - expected:to "f32"):abs():max():item()
  assert.is_true(far <= 1e-6 * most, ("sums differ by %g"):format(far))
end

-- Sums y and a copy of it over its rows, quantizes both in every way that takes a whole tensor's absmax, and compares.
local function check(y)
  local copy = core.clone(core.contiguous(y))
  for last = 1, y:dim() - 1 do
    local dimensions = last == 1 and {1} or {1, 2}
    if y.dtype == "f32" then check_sum(core.sum(y, dimensions), core.sum(copy, dimensions), copy) end
  end
  for name, quantizer in support.sorted_pairs(quantizers) do
    local outputs = name == "map" and "values scale sum" or "codes scale transposed sum"
    local found = {core.quantize(y, quantizer, outputs)}
    local expected = {core.quantize(copy, quantizer, outputs)}
    for i = 1, #expected - 1 do same_bytes(expected[i], found[i]) end
    check_sum(found[#expected], expected[#expected], copy:view(-1, copy:size(-1)))
    same_bytes((core.quantize(copy, quantizer, "codes")), (core.quantize(y, quantizer, "codes")))
  end
  local history = fp8.zeros(4, {device = core.device(y)})
  same_bytes(core.delayed_scale(copy, history, quantizers.e4m3, false),
    core.delayed_scale(y, history, quantizers.e4m3, false))
end

support.each_device(function(device)
  describe("what an operation has just written", function()
    local function random(dtype, factor)
      return (fp8.randn({rows, columns}, {device = device}) * factor):to(dtype)
    end

    local function at(x, row, column, value)
      x:narrow(1, row, 1):narrow(2, column, 1):fill_(value)
      return x
    end

    local batch = device == "cpu" and 1 or 9 -- nothing is noted on the CPU

    before_each(function() fp8.manual_seed(11) end)

    for _, dtype in ipairs {"bf16", "f16", "f32"} do
      it("finds the scales of activation functions and their gradients, " .. dtype, function()
        for _, name in ipairs {"relu", "gelu", "gelu_tanh", "silu"} do
          local x, grad = random(dtype, 3), random(dtype, 0.01)
          check(core[name](x))
          check(core[name .. "_backward"](grad, x))
        end
      end)

      it("finds the scales of normalization and its gradient, " .. dtype, function()
        local x = random(dtype, 2):requires_grad_()
        local weight, bias = fp8.rand(columns, {device = device}), fp8.randn(columns, {device = device})
        local y, mean, inverse = core.layer_norm(x, weight, bias, 1e-5)
        check(y)
        check((core.rms_norm(x, weight, 1e-5)))
        check(core.normalize_backward {
          dy = random(dtype, 0.1), x = x, mean = mean, inverse = inverse, weight = weight, addend = random(dtype, 0.1),
          want_x = true,
        }.x)
      end)

      it("finds the scale of the gradient of cross-entropy, " .. dtype, function()
        local targets = fp8.randint(0, columns, {rows}, {dtype = "i64", device = device})
        local losses = fp8.rand(rows, {device = device})
        local logits = random(dtype, 2)
        local _, gradient = core.cross_entropy(logits, targets, nil, losses, false)
        check(gradient)
        local _, in_place = core.cross_entropy(logits, targets, nil, losses, true)
        check(in_place)
      end)
    end

    for _, dtype in ipairs {"bf16", "f16"} do
      it("finds the scales of attention and its gradients, " .. dtype, function()
        for _, features in ipairs {32, 64, 128} do
          local heads, positions = 256 / features, 700
          for _, causal in ipairs {false, true} do
            local x = fp8.randn({batch, positions, 768}, {device = device}):to(dtype):requires_grad_()
            local y = fp8.self_attention(x, heads, {causal = causal})
            check(y)
            local grad = fp8.randn({batch, positions, 256}, {device = device}):to(dtype)
            y:backward(grad)
            check(x.grad)
          end
        end
      end)

      it("finds no scale in rows that attention computes again, " .. dtype, function()
        local x = fp8.randn({batch, 700, 768}, {device = device}):to(dtype)
        x:narrow(1, batch, 1):narrow(2, 700, 1):narrow(3, 600, 1):fill_(0 / 0) -- which the last position alone sees
        local y = fp8.self_attention(x, 4, {causal = true})
        check(y)
        check(y:narrow(1, 1, 1))
      end)
    end

    it("gives NaN for what is not finite", function()
      for _, value in ipairs {0 / 0, math.huge} do
        local y = core.gelu(at(random("bf16", 1), 900, 77, value))
        assert.is_true(core.isnan((core.quantize(y, quantizers.e4m3, "scale"))):item() == 1)
        check(y)
      end
    end)

    it("follows changes in place, through views too", function()
      local y = core.gelu(random("bf16", 1))
      core.mul_(y, 100)
      check(y)
      y = core.gelu(random("bf16", 1))
      at(y, 3, 5, 1000)
      check(y)
      y = core.gelu(random("bf16", 1))
      core.copy_(y, random("bf16", 50))
      check(y)
    end)

    it("takes views of all elements, and not of some or in another order", function()
      local y = at(core.gelu(random("bf16", 1)), 1, 1, 500)
      check(core.gelu(y):view(columns, rows))
      check(core.gelu(y):narrow(1, 17, rows - 16))
      check(core.gelu(y):t())
    end)

    if device ~= "cpu" then
      it("follows what changes between replays of a graph", function()
        local x = random("bf16", 1)
        local before = core.gelu(x) -- has a note when the capture begins
        local graph = fp8.cuda.graph(function()
          local y = core.gelu(x)
          local codes, scale = core.quantize(y, quantizers.e4m3, "codes scale")
          local codes_before, scale_before = core.quantize(before, quantizers.e4m3, "codes scale")
          return codes, scale, codes_before, scale_before, y
        end, device)
        for factor = 1, 3 do
          core.copy_(x, random("bf16", factor))
          core.copy_(before, random("bf16", 7 * factor))
          local codes, scale, codes_before, scale_before, y = graph()
          local expected, expected_scale = core.quantize(core.clone(y), quantizers.e4m3, "codes scale")
          same_bytes(expected, codes)
          same_bytes(expected_scale, scale)
          local other, other_scale = core.quantize(core.clone(before), quantizers.e4m3, "codes scale")
          same_bytes(other, codes_before)
          same_bytes(other_scale, scale_before)
          check(y)
        end
      end)
    end
  end)
end)

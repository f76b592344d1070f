-- A residual sum with the norm after it, in one pass, beside both one after the other.
local core = require "fp8.core"
local fp8 = require "fp8"
local residual = require "fp8.ops.normalize.residual"
local support = require "spec.support"

local same_bytes = support.same_bytes

support.each_device(function(device)
  local on = {device = device}

  describe("a residual sum with the norm after it", function()
    before_each(function() fp8.manual_seed(9) end)

    -- {rows …, features}: rows in registers, rows too long for that, sides that are no vectors, one row, none.
    local shapes = {{5, 7, 768}, {33, 1024}, {3, 20000}, {4, 77}, {9, 8}, {1, 64}, {0, 16}}

    for _, dtype in ipairs {"bf16", "f16", "f32"} do
      it("gives the numbers of both, and their gradients, " .. dtype, function()
        for _, shape in ipairs(shapes) do
          for _, kind in ipairs {"layer", "rms"} do
            local features = shape[#shape]
            local function random() return (fp8.randn(shape, on) * 2):to(dtype) end
            local values, branch_values = random(), random()
            local weight, bias = fp8.rand(features, on):requires_grad_(), fp8.randn(features, on):requires_grad_()
            local grad, grad_sum = random(), random()
            local function run(compute)
              weight.grad, bias.grad = nil, nil
              local x, branch = values:clone():requires_grad_(), branch_values:clone():requires_grad_()
              local sum, y = compute(x, branch)
              if sum:numel() > 0 then ((y * grad):sum() + (sum * grad_sum):sum()):backward() end
              return {sum, y, x.grad, branch.grad, weight.grad, kind == "layer" and bias.grad or nil}
            end
            local fused = run(function(x, branch)
              if kind == "layer" then return residual.layer_norm(x, branch, weight, bias, 1e-5) end
              return residual.rms_norm(x, branch, weight, 1e-5)
            end)
            local separate = run(function(x, branch)
              local sum = x + branch
              if kind == "layer" then return sum, fp8.layer_norm(sum, weight, bias) end
              return sum, fp8.rms_norm(sum, weight)
            end)
            for i = 1, 6 do
              assert.are.equal(separate[i] == nil, fused[i] == nil)
              if fused[i] then same_bytes(separate[i], fused[i]) end
            end
          end
        end
      end)
    end

    it("takes deviations that float32 squares can't hold", function()
      local x = fp8.randn({3, 64}, on) * 1e30
      local branch = fp8.randn({3, 64}, on) * 1e30
      local y, _, _, sum = core.layer_norm(x, nil, nil, 0, branch)
      same_bytes(x + branch, sum)
      same_bytes((core.layer_norm(sum, nil, nil, 0)), y)
      assert.are.equal(1, y:isfinite():min():item())
    end)

    it("refuses what can't be added", function()
      local x = fp8.randn({3, 8}, on)
      for _, other in ipairs {fp8.randn({8}, on), fp8.randn({3, 8}, on):to "bf16", fp8.randn({8, 3}, on)} do
        support.fails("what is added must have the input's shape and dtype", core.layer_norm, x, nil, nil, 0, other)
      end
    end)

    it("is found in a transformer's block", function()
      for _, norm in ipairs {"layer", "rms"} do
        local block = fp8.nn.TransformerBlock(64, 2, {norm = norm, dtype = "bf16", device = device})
        local values = fp8.randn({2, 16, 64}, on):to "bf16"
        local x, other = values:clone():requires_grad_(), values:clone():requires_grad_()
        local y = block(x)
        local sum = other + block.attention(block.norm1(other))
        local expected = sum + block.mlp(block.norm2(sum))
        same_bytes(expected, y)
        y:sum():backward()
        expected:sum():backward()
        same_bytes(other.grad, x.grad)
      end
    end)
  end)
end)

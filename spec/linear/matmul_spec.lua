-- matmul_mixed and matmul_global: the products of the two layers, for any matrices.
local fp8 = require "fp8"
local reference = require "spec.support.reference"
local support = require "spec.support"
local check_linear = require "spec.support.linear_check"

local e4m3, e5m2 = reference.map(true, 4, 3), reference.map(true, 5, 2)

local function rules_of(input, weight, grad_output, weight_grad)
  return {input = {e4m3, input}, weight = {e4m3, weight}, grad_output = {e5m2, grad_output}, weight_grad = weight_grad}
end

support.each_device(function(device)
  describe("matmul_mixed and matmul_global", function()
    for name, rules in support.sorted_pairs {
      matmul_mixed = rules_of(64, "tensor", 64, "full"),
      matmul_global = rules_of("tensor", "tensor", "tensor", "quantized"),
    } do
      it(name .. " computes the layer's products with b (K, N)", function()
        for _, dtype in ipairs {"f32", "f16", "bf16"} do
          local weight = fp8.randn(20, 30, {device = device}):to(dtype):requires_grad_()
          local layer = setmetatable({weight = weight}, {__call = function(_, x) return fp8[name](x, weight:t()) end})
          for _, shape in ipairs {{7}, {2, 3}, {}} do
            check_linear(layer, rules, {device = device, dtype = dtype, shape = shape, inputs = 30, outputs = 20})
            weight.grad = nil
          end
        end
      end)
    end

    it("take block lengths", function()
      local a, b = fp8.randn(4, 200, {device = device}), fp8.randn(200, 5, {device = device})
      local map = fp8.create_map(true, 4, 3, 8)
      local codes, state = fp8.quantize_blockwise(a, map, 128)
      local b_codes, b_state = fp8.quantize(b, map)
      local expected = fp8.dequantize_blockwise(codes, state):matmul(fp8.dequantize(b_codes, b_state))
      support.close(fp8.matmul_mixed(a, b, {blocksize = 128}), expected)
      assert.is_true(support.error(fp8.matmul_mixed(a, b), expected) > 1e-3)
    end)
  end)
end)

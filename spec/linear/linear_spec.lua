-- The linear layers against a slow form of the design's table: which operand of which product is quantized, and how.
local fp8 = require "fp8"
local reference = require "spec.support.reference"
local support = require "spec.support"
local check_linear = require "spec.support.linear_check"

local e4m3, e5m2 = reference.map(true, 4, 3), reference.map(true, 5, 2)

-- Recipes in the reference's terms: {format, scale} of each operand, nil where it stays as it is.
local plain = {}
local mixed = {input = {e4m3, "block"}, weight = {e4m3, "tensor"}, grad_output = {e5m2, "block"}, weight_grad = "full"}
local global = {
  input = {e4m3, "tensor"}, weight = {e4m3, "tensor"}, grad_output = {e5m2, "tensor"}, weight_grad = "quantized",
}

local layers = {Linear = plain, LinearMixed = mixed, LinearGlobal = global}

support.each_device(function(device)
  before_each(function() fp8.manual_seed(1) end)

  for name, rules in support.sorted_pairs(layers) do
    describe(name, function()
      for _, dtype in ipairs {"f32", "f16", "bf16"} do
        it("follows the table in " .. dtype, function()
          local layer = fp8[name](70, 40, {dtype = dtype, device = device})
          check_linear(layer, rules, {device = device, dtype = dtype, shape = {9}, inputs = 70, outputs = 40})
        end)

        it("keeps float32 weights for inputs in " .. dtype, function()
          local layer = fp8[name](33, 65, {device = device})
          check_linear(layer, rules, {device = device, dtype = dtype, shape = {7}, inputs = 33, outputs = 65})
        end)
      end

      it("takes inputs of 1 to 4 dimensions", function()
        for _, shape in ipairs {{}, {5}, {2, 3}, {2, 1, 3}} do
          local layer = fp8[name](19, 6, {device = device})
          check_linear(layer, rules, {device = device, dtype = "f32", shape = shape, inputs = 19, outputs = 6})
        end
      end)

      it("works without a bias", function()
        for _, options in ipairs {{bias = false}, false} do
          local layer = fp8[name](8, 5, options)
          assert.is_nil(layer.bias)
          check_linear(layer:to(device), rules, {device = device, dtype = "f32", shape = {3}, inputs = 8, outputs = 5})
        end
      end)

      it("takes a batch without rows", function()
        local layer = fp8[name](8, 5, {device = device})
        check_linear(layer, rules, {device = device, dtype = "f32", shape = {0}, inputs = 8, outputs = 5})
        local y = layer(fp8.zeros(2, 0, 8, {device = device}))
        assert.same({2, 0, 5}, y.shape)
      end)

      it("takes inputs that are not contiguous", function()
        local layer = fp8[name](12, 4, {device = device})
        local x = fp8.randn(12, 6, {device = device})
        support.close(layer(x:t()), layer(x:t():contiguous()), 1e-6)
      end)
    end)
  end

  describe("The block length", function()
    for _, features in ipairs {3, 64, 65, 200, 4096, 4100} do
      it(("follows %d features"):format(features), function()
        local outputs = features > 300 and 3 or features
        local layer = fp8.LinearMixed(features, outputs, {device = device})
        check_linear(layer, mixed, {device = device, dtype = "f32", shape = {3}, inputs = features, outputs = outputs})
        if outputs == features then return end
        layer = fp8.LinearMixed(outputs, features, {device = device})
        check_linear(layer, mixed, {device = device, dtype = "f32", shape = {3}, inputs = outputs, outputs = features})
      end)
    end
  end)
end)

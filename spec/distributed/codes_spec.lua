-- Which weights travel as codes: those that have the same codes again after they were decoded.
local codes = require "fp8.distributed.codes"
local core = require "fp8.core"
local fp8 = require "fp8"
local support = require "spec.support"

local function operand_of(recipe)
  local layer = fp8.Linear(64, 48, {recipe = recipe, bias = false})
  codes.know(layer)
  return codes.operand_of(layer.weight), layer.weight:detach()
end

describe("Weights that travel as codes", function()
  it("are those with one scale and nothing more", function()
    for name, wanted in pairs {global = true, global_native = true, mixed = true, rowwise = false, luq = false,
        halo = false, mx = false, nvfp4 = false} do
      assert.equal(wanted, operand_of(name) ~= nil, name)
    end
    for field, value in pairs {
      range = {root_mean_square = 2}, candidates = {1, 1.5}, smooth = "row", mask = true, headroom = 2,
      constant_scale = 0.5, scale_rounding = "mx", rounding = "stochastic", history = 4,
    } do
      local weight = {format = "e4m3", scale = "tensor", [field] = value}
      assert.is_nil((operand_of(fp8.recipe("global_native", {weight = weight}))), field)
    end
  end)

  it("have the same codes after they were decoded", function()
    for name in pairs(fp8.recipes) do
      local operand, weight = operand_of(name)
      if operand then
        local first, scale = core.quantize(weight, operand.quantizer, "codes scale")
        local decoded = core.dequantize(first, scale, operand.quantizer, "f32")
        support.same_bytes((core.quantize(decoded, operand.quantizer, "codes")), first)
      end
    end
  end)
end)

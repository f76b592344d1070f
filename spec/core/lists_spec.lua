-- Lists as arguments: no holes, no elements or fields that are read by nobody, and names that are whole.
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails

support.each_device(function(device)
  describe("lists", function()
    local x = fp8.ones(4, 2, 5, {device = device})

    it("have no holes", function()
      local missing = "element 3 of the list is missing"
      fails(missing, fp8.tensor, {5, 6, nil, 8}, {device = device})
      fails("element 1 of the list is missing", fp8.tensor, {nil, 6}, {device = device})
      fails(missing, fp8.tensor, {{1, 2, 3, 4}, {1, 2, nil, 4}}, {device = device})
      fails(missing, fp8.tensor, {{1, 2, nil, 4}, {1, 2, 3, 4}}, {device = device})
      for _, make in ipairs {fp8.zeros, fp8.ones, fp8.empty, fp8.rand, fp8.randn} do
        fails(missing, make, {3, 4, nil, 2}, {device = device})
      end
      fails(missing, fp8.full, {3, 4, nil, 2}, 1, {device = device})
      fails(missing, fp8.randint, 0, 9, {3, 4, nil, 2}, {device = device})
      for _, name in ipairs {"sum", "mean", "max", "min", "argmax", "squeeze"} do
        fails("element 2 of the list is missing", x[name], x, {1, nil, 2})
      end
      fails(missing, x.view, x, {4, 2, nil, 5})
      fails(missing, x.expand, x, {4, 2, nil, 5})
      fails("element 2 of the list is missing", x.permute, x, {3, nil, 2, 1})
      fails("element 2 of the list is missing", fp8.cat, {x, nil, x})
      fails("element 2 of the list is missing", fp8.stack, {x, nil, x})
    end)

    it("count from 1 in whole numbers", function()
      fails("element 0", fp8.tensor, {[0] = 7, 8}, {device = device})
      fails("element 0", fp8.zeros, {[0] = 7, 8}, {device = device})
      fails("element -1", fp8.tensor, {{7, [-1] = 8}}, {device = device})
      fails("element 0.5", x.sum, x, {[0.5] = 2, 1})
      fails("boolean", fp8.cat, {x, [true] = x})
    end)

    it("of parameters have no holes either", function()
      local function parameter() return fp8.ones(2, {device = device, requires_grad = true}) end
      local list = {parameter(), nil, parameter()}
      fails("AdamW: element 2 of the list is missing", fp8.optim.AdamW, list)
      fails("AdamW: group 1: element 2 of the list is missing", fp8.optim.AdamW, {{parameters = list}})
      fails("AdamW: element 1 of the list is missing", fp8.optim.AdamW, {[2] = {parameters = {parameter()}}})
      fails("SGD: a list is expected", fp8.optim.SGD, {parameter(), lr = 0.1})
      fails("clip_grad_norm: element 2 of the list is missing", fp8.optim.clip_grad_norm, list, 1)
    end)

    it("of sizes that are no table have none either", function()
      for _, make in ipairs {fp8.zeros, fp8.randn} do
        fails("got nil", make, 4, nil, 2)
        fails("got nil", make, 4, nil, {device = device})
      end
      fails("got nil", x.view, x, 8, nil, 5)
      fails("got nil", x.permute, x, 3, nil, 1)
      assert.same({4}, fp8.zeros(4, nil).shape)
    end)

    it("that make tensors may hold the options", function()
      local y = fp8.tensor {7, 8, dtype = "i32", device = device}
      assert.same({"i32", 7, 8}, {y.dtype, unpack(y:totable())})
      assert.equal(device, (y.device:gsub(":.*", "")))
      for _, make in ipairs {fp8.zeros, fp8.ones, fp8.empty, fp8.rand, fp8.randn} do
        local z = make {3, 2, dtype = "bf16", requires_grad = true, device = device}
        assert.same({{3, 2}, "bf16", true}, {z.shape, z.dtype, z.requires_grad})
      end
      local w = fp8.full({2, dtype = "e5m2", device = device}, 3)
      assert.same({"e5m2", 3, 3}, {w.dtype, unpack(w:totable())})
    end)

    it("hold no other fields", function()
      fails("unknown option 'color'", fp8.ones, {2, color = 1})
      fails("unknown option 'dtypes'", fp8.tensor, {2, dtypes = "f16"})
      fails("unknown dtype 'f15'", fp8.tensor, {2, dtype = "f15"})
      fails("field 'dtype'", fp8.tensor, {{2, dtype = "f16"}})
      fails("field 'keepdim'", x.sum, x, {1, keepdim = true})
      fails("field 'dtype'", x.view, x, {40, dtype = "f16"})
      fails("field 'dim'", fp8.cat, {x, x, dim = 2})
      fails("in the list before", fp8.zeros, {2, dtype = "f16"}, {device = device})
    end)
  end)

  describe("options", function()
    it("are refused where they would do nothing", function()
      local x = fp8.ones(2, {device = device})
      for _, make in ipairs {fp8.zeros, fp8.empty, fp8.randn} do
        fails("unknown option 'saturate'", make, 2, {device = device, saturate = false})
      end
      fails("unknown option 'saturate'", fp8.tensor, {1}, {dtype = "e4m3", saturate = false, device = device})
      fails("unknown option 'saturate'", fp8.arange, 3, {saturate = true, device = device})
      fails("unknown option 'requires_grad'", x.to, x, {dtype = "f16", requires_grad = true})
    end)
  end)

  describe("names", function()
    it("end with the string, not with a zero byte in it", function()
      fails("unknown dtype", fp8.zeros, 2, {dtype = "f16\0", device = device})
      fails("unknown device", fp8.zeros, 2, {device = device .. "\0"})
      fails("unknown option", fp8.zeros, 2, {["device\0s"] = device})
      fails("is no dtype", fp8.zeros {device = device}.to, fp8.zeros {device = device}, "bf16\0bf16")
      fails("unknown dtype", fp8.set_default_dtype, "f16\0")
      fails("unknown device", fp8.set_default_device, device .. "\0:1")
      fails("there is no format", fp8.quantize, fp8.ones(4, {device = device}), "e5m2\0")
    end)
  end)
end)

-- Patches, pooling, padding and convolutions against PyTorch: results and gradients (spec/fixtures/patches.py).
local fp8 = require "fp8"
local support = require "spec.support"

local tensors, calls = fp8.load(support.fixture "patches.safetensors")

--- The inputs of a case on a device; of every other element of a tensor if `strided`.
local function inputs_of(case, device, strided)
  local list = {}
  for i = 1, 3 do
    local x = tensors[("%s.in.%d"):format(case, i)]
    if x then
      x = x:to(device)
      list[i] = (strided and fp8.stack({x, x}, -1):select(-1, 2) or x:clone()):requires_grad_()
    end
  end
  return list
end

local function compare(case, device, strided)
  local inputs = inputs_of(case, device, strided)
  local chunk = assert(loadstring("local fp8, a, b, c = ... return " .. calls[case]))
  local results = {chunk(fp8, inputs[1], inputs[2], inputs[3])}
  assert.equal(tensors[case .. ".y.2"] and 2 or 1, #results)
  for i, result in ipairs(results) do
    local expected = tensors[("%s.y.%d"):format(case, i)]
    if expected.dtype == "f32" then
      support.close(result:detach():cpu(), expected)
    else
      support.equal(result:cpu(), expected)
    end
  end
  local y = results[1]
  ;(y * tensors[case .. ".dy"]:to(device)):sum():backward()
  for i, input in ipairs(inputs) do support.close(input.grad:cpu(), tensors[("%s.grad.%d"):format(case, i)]) end
end

support.each_device(function(device)
  describe("PyTorch's results", function()
    for number = 1, 80 do
      local case = tostring(number)
      it(("are those of %s"):format(calls[case]), function()
        compare(case, device, false)
        compare(case, device, true)
      end)
    end

    it("are all compared", function()
      assert.is_truthy(calls["80"])
      assert.is_nil(calls["81"])
    end)
  end)
end)

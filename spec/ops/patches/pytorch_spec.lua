-- Patches, pooling, padding, convolutions and normalization by channels against PyTorch (spec/fixtures/patches.py).
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

-- What calls use beside fp8: layers with weight and bias, if they are given.
local layers = {fp8 = fp8}

local function with_parameters(layer, weight, bias)
  layer.weight, layer.bias = weight, bias
  return layer
end

function layers.group_norm(groups, x, weight, bias)
  local channels, options = x:size(2), {affine = weight ~= nil, device = x.device}
  return with_parameters(fp8.nn.GroupNorm(groups, channels, options), weight, bias)(x)
end

function layers.instance_norm(x)
  return fp8.nn["InstanceNorm" .. x:dim() - 2 .. "d"](x:size(2))(x)
end

-- y, running statistics after another batch, and y by these.
function layers.batch_norm(x, weight, bias, options)
  options.device = x.device
  local layer = fp8.nn[x:dim() == 4 and "BatchNorm2d" or "BatchNorm1d"](x:size(2), options)
  with_parameters(layer, weight, bias)
  local y = layer(x)
  layer(x:detach() + 1)
  local mean, variance = layer.running_mean:clone(), layer.running_var:clone()
  assert.equal(2, layer.num_batches_tracked:item())
  return y, mean, variance, layer:eval()(x)
end

local function compare(case, device, strided)
  local inputs = inputs_of(case, device, strided)
  local chunk = setfenv(assert(loadstring("local a, b, c = ... return " .. calls[case])), layers)
  local results, count = {chunk(inputs[1], inputs[2], inputs[3])}, 0
  while tensors[("%s.y.%d"):format(case, count + 1)] do count = count + 1 end
  assert.equal(count, #results)
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
    for number = 1, 95 do
      local case = tostring(number)
      it(("are those of %s"):format(calls[case]), function()
        compare(case, device, false)
        compare(case, device, true)
      end)
    end

    it("are all compared", function()
      assert.is_truthy(calls["95"])
      assert.is_nil(calls["96"])
    end)
  end)
end)

-- Convolutions on GPUs, by cuDNN and without it: the CPU's results, in graphs too, and what FP8_CUDNN says.
local fp8 = require "fp8"
local support = require "spec.support"

local function results(device, environment)
  local ok, output = support.run(support.fixture "convolutions.lua" .. " " .. device, environment)
  assert.is_true(ok, output)
  return output
end

describe("Convolutions", function()
  local expected

  setup(function()
    expected = results "cpu"
    assert.equal(8 * 5 * 4, select(2, expected:gsub("\n", "")))
  end)

  for _, device in ipairs(support.devices) do
    if device ~= "cpu" then
      it(("are those of the CPU on %s"):format(device), function()
        assert.equal(expected, results(device))
        assert.equal(expected, results(device, "FP8_CUDNN=none"))
      end)

      it(("name a library that can't be loaded on %s"):format(device), function()
        local code = [[
          local fp8 = require "fp8"
          local x = fp8.ones(1, 2, 3, 3, {device = "%s"})
          print(pcall(fp8.conv2d, x, x))
          print(x:sum():item())]]
        local ok, output = support.run_lua(code:format(device), "FP8_CUDNN=/nowhere/libcudnn.so.9")
        assert.is_true(ok, output)
        assert.is_truthy(output:find("cuDNN can't be loaded as FP8_CUDNN says: /nowhere/libcudnn.so.9", 1, true),
          output)
        assert.is_truthy(output:find("\n18", 1, true), output)
      end)

      it(("are the same bits in a graph on %s"):format(device), function()
        local layer = fp8.nn.Conv2d(8, 16, 3, {padding = 1, device = device})
        layer.weight:detach():copy_(fp8.randint(-2, 3, layer.weight.shape))
        local x = fp8.randint(-2, 3, {4, 8, 12, 12}):float():to(device):requires_grad_()
        local dy = fp8.randint(-2, 3, {4, 16, 12, 12}):float():to(device)
        local function step()
          x.grad, layer.weight.grad, layer.bias.grad = nil, nil, nil
          local y = layer(x)
          y:backward(dy)
          return y:detach(), x.grad, layer.weight.grad
        end
        local expected_now, found = {step()}, {fp8.cuda.graph(step)()}
        for i = 1, 3 do support.same_bytes(found[i], expected_now[i]) end
      end)
    end
  end
end)

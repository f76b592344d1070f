-- Convolutions by libraries and as products of patches: on the CPU by oneDNN; on GPUs, by cuDNN and without it, the
-- CPU's results, in graphs too, and what FP8_CUDNN says.
local core = require "fp8.core"
local fp8 = require "fp8"
local support = require "spec.support"

local function results(device, environment)
  local ok, output = support.run(support.fixture "convolutions.lua" .. " " .. device, environment)
  assert.is_true(ok, output)
  return output
end

-- Shapes of x and of the weight, and groups, stride, padding, dilation: with channels in full blocks and not, one
-- channel in each group, images of three channels, and some chunks of images.
local shapes = {
  {{2, 16, 12, 9}, {32, 16, 3, 3}, 1, 1, 1, 1},
  {{3, 20, 9, 9}, {30, 20, 3, 3}, 1, 2, 1, 1},
  {{1, 32, 10, 10}, {16, 32, 3, 3}, 1, 1, 2, 2},
  {{2, 64, 7, 8}, {64, 16, 3, 3}, 4, 1, 1, 1},
  {{2, 24, 8, 9}, {24, 1, 5, 3}, 24, 1, 1, 1},
  {{2, 32, 9, 8}, {32, 1, 3, 3}, 32, 2, 1, 1},
  {{2, 3, 24, 24}, {16, 3, 7, 7}, 1, 2, 3, 1},
  {{33, 16, 64, 64}, {16, 16, 3, 3}, 1, 2, 1, 1},
}

-- y, dx and dw of whole numbers.
local function convolutions(case, dtype, weight_dtype, device)
  fp8.manual_seed(3)
  local function whole(shape) return fp8.randint(-2, 3, shape):to(dtype):to(device) end
  local x, weight = whole(case[1]), whole(case[2])
  local groups, stride, padding, dilation = unpack(case, 3)
  local y = fp8.conv2d(x, weight, nil, stride, padding, dilation, groups)
  local window = {case[2][3], case[2][4], stride, stride, dilation, dilation, padding, padding, padding, padding}
  local dx, dw = core.convolution_backward(whole(y.shape), x, weight, groups, true, weight_dtype, unpack(window))
  return {y, dx, dw}
end

describe("Convolutions", function()
  local expected

  setup(function()
    expected = results "cpu"
    assert.equal(8 * 5 * 4, select(2, expected:gsub("\n", "")))
  end)

  for _, dtype in ipairs {"f32", "bf16", "f16"} do
    for _, weight_dtype in ipairs(dtype == "f32" and {"f32"} or {dtype, "f32"}) do
      it(("are products of patches on the CPU, %s and a gradient in %s"):format(dtype, weight_dtype), function()
        for _, case in ipairs(shapes) do
          local found = convolutions(case, dtype, weight_dtype, "cpu")
          fp8.set_deterministic(true)
          local of_patches = convolutions(case, dtype, weight_dtype, "cpu")
          fp8.set_deterministic(false)
          for i = 1, 3 do support.same_bytes(found[i], of_patches[i]) end
        end
      end)
    end
  end

  it("keep subnormal numbers of bf16", function()
    local x = fp8.full({1, 16, 6, 6}, 2 ^ -100, {dtype = "bf16"})
    local y = fp8.conv2d(x, fp8.full({16, 16, 3, 3}, 2 ^ -30, {dtype = "bf16"}))
    assert.equal(16 * 9 * 2 ^ -130, y:max():item())
    assert.equal(16 * 9 * 2 ^ -130, y:min():item())
  end)

  for _, device in ipairs(support.devices) do
    if device ~= "cpu" then
      it(("are those of the CPU on %s"):format(device), function()
        assert.equal(expected, results(device))
        assert.equal(expected, results(device, "FP8_CUDNN=none"))
      end)

      -- What cuDNN may transform: by Winograd's algorithm and Fourier's.
      it(("have the same bits each time, to float32's accuracy, on %s"):format(device), function()
        local function results_of(case, place)
          fp8.manual_seed(4)
          local x, weight = fp8.randn(unpack(case[1])):to(place), fp8.randn(unpack(case[2])):to(place)
          local y = fp8.conv2d(x:requires_grad_(), weight:requires_grad_(), nil, {padding = 1})
          y:backward(fp8.randn(unpack(y.shape)):to(place))
          return {y:detach(), x.grad, weight.grad}
        end
        for _, case in ipairs {{{64, 32, 28, 28}, {64, 32, 3, 3}}, {{32, 64, 14, 14}, {96, 64, 3, 3}}} do
          local found, again, on_cpu = results_of(case, device), results_of(case, device), results_of(case, "cpu")
          for i = 1, 3 do
            support.same_bytes(found[i], again[i])
            local off = (found[i]:cpu() - on_cpu[i]):norm():item() / on_cpu[i]:norm():item()
            assert.is_true(off <= support.tolerance.f32, ("relative error %g"):format(off))
          end
        end
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

-- Layer and root mean square normalization against plain Lua, for rows of all lengths, alignments and dtypes.
local fp8 = require "fp8"
local batch_norm = require "fp8.ops.normalize.batch"
local normalize = require "spec.support.reference.normalize"
local support = require "spec.support"

local fails = support.fails

local function close(actual, values, dtype, factor)
  support.close(actual, fp8.tensor(values):view(actual.shape), support.tolerance[dtype] * (factor or 1))
end

--- Normalizes a random matrix of these sizes, and compares everything.
local function compare(device, rows, columns, dtype, setup)
  local function leaf(x, wanted) return x:to{device = device, dtype = wanted or dtype}:clone():requires_grad_() end
  local parameter_dtype = setup.f32_parameters and "f32" or dtype
  local weight = not setup.plain and leaf(fp8.randn(columns) + 1, parameter_dtype) or nil
  local bias = not setup.plain and not setup.rms and leaf(fp8.randn(columns), parameter_dtype) or nil
  -- An offset of one element takes the alignment away.
  local offset = setup.unaligned and 1 or 0
  local whole = leaf(fp8.randn(rows * columns + offset) * 1.5 + 0.5)
  local x = whole:narrow(1, 1 + offset, rows * columns):view(rows, columns)
  local y = setup.rms and fp8.rms_norm(x, weight, 1e-3) or fp8.layer_norm(x, weight, bias, 1e-3)
  local dy = fp8.randn(rows, columns):to{device = device, dtype = dtype}
  y:backward(dy)
  local want_y, want_dx, want_dweight, want_dbias = normalize(support.flat(x:detach()),
    weight and support.flat(weight:detach()), bias and support.flat(bias:detach()), support.flat(dy), rows, columns,
    1e-3, not setup.rms)
  assert.equal(dtype, y.dtype)
  close(y:detach(), want_y, dtype)
  close(whole.grad:narrow(1, 1 + offset, rows * columns):view(rows, columns), want_dx, dtype)
  if weight then
    assert.equal(parameter_dtype, weight.grad.dtype)
    close(weight.grad, want_dweight, parameter_dtype)
  end
  if bias then close(bias.grad, want_dbias, parameter_dtype) end
end

--- Batch normalization of random images against plain Lua, which has each channel as a row.
local function compare_channels(device, images, channels, elements, dtype, setup)
  local function leaf(x) return x:to{device = device, dtype = dtype}:clone():requires_grad_() end
  local weight, bias = leaf(fp8.randn(channels) + 1), leaf(fp8.randn(channels))
  local offset = setup.unaligned and 1 or 0
  local count = images * channels * elements
  local whole = leaf(fp8.randn(count + offset) * 1.5 + 0.5)
  local x = whole:narrow(1, 1 + offset, count):view(images, channels, elements)
  local dy = fp8.randn(images, channels, elements):to{device = device, dtype = dtype}
  local y, mean, variance = batch_norm(x, weight, bias, 1e-3)
  y:backward(setup.transposed and dy:transpose(1, 3):contiguous():transpose(1, 3) or dy)

  local function rows(t) return t:detach():to{device = "cpu", dtype = "f32"}:transpose(1, 2):contiguous() end
  local function back(values) return fp8.tensor(values):view(channels, images, elements):transpose(1, 2) end
  local function beside(parameter) return parameter:detach():to{device = "cpu", dtype = "f32"}:view(channels, 1, 1) end
  local row, columns = rows(x), images * elements
  local n, dx = normalize(support.flat(row), nil, nil, support.flat(rows(dy) * beside(weight)), channels, columns, 1e-3,
    true)
  local normalized, gradient = back(n), rows(dy):transpose(1, 2)
  assert.equal(dtype, y.dtype)
  local scaled = normalized * beside(weight):view(1, channels, 1)
  close(y:detach(), support.flat(scaled + beside(bias):view(1, channels, 1)), dtype)
  close(whole.grad:narrow(1, 1 + offset, count):view(x.shape), support.flat(back(dx)), dtype)
  close(weight.grad, support.flat((gradient * normalized):sum({1, 3})), dtype, 4)
  close(bias.grad, support.flat(gradient:sum({1, 3})), dtype, 4)
  close(mean, support.flat(row:mean({2, 3})), "f32")
  close(variance, support.flat(row:var({2, 3}, {correction = 0})), "f32")
end

local lengths = {
  1, 2, 3, 8, 24, 31, 64, 100, 128, 256, 264, 384, 392, 512, 520, 768, 776, 1000, 1024, 1032, 2048, 2056, 4096, 4104,
  8192, 8200,
}

support.each_device(function(device)
  local on = {device = device}

  describe("Normalization", function()
    for _, dtype in ipairs {"f32", "f16", "bf16"} do
      it("of rows of any length, " .. dtype, function()
        fp8.manual_seed(1)
        for i, columns in ipairs(lengths) do
          local rows = ({1, 2, 5, 19})[i % 4 + 1]
          if columns > 2 then compare(device, rows, columns, dtype, {f32_parameters = i % 3 == 0}) end
          compare(device, rows, columns, dtype, {rms = true, f32_parameters = i % 3 == 1})
        end
      end)

      it("of many rows, of rows off their alignment, and without parameters, " .. dtype, function()
        fp8.manual_seed(2)
        for _, rms in ipairs {false, true} do
          compare(device, 3000, 8, dtype, {rms = rms})
          compare(device, 700, 33, dtype, {rms = rms})
          compare(device, 3, 64, dtype, {rms = rms, unaligned = true})
          compare(device, 3, 1500, dtype, {rms = rms, unaligned = true, f32_parameters = true})
          compare(device, 4, 72, dtype, {rms = rms, plain = true})
        end
      end)
    end

    for _, dtype in ipairs {"f32", "f16", "bf16"} do
      it("of channels, whatever lies side by side, " .. dtype, function()
        fp8.manual_seed(3)
        for _, sizes in ipairs {{5, 3, 1}, {6, 4, 7}, {3, 5, 8}, {2, 3, 49}, {1, 2, 5}, {3, 2, 1000}, {40, 3, 520},
                                {2, 300, 16}, {33, 1, 259}} do
          local images, channels, elements = unpack(sizes)
          for _, setup in ipairs {{}, {unaligned = true}, {transposed = true}} do
            compare_channels(device, images, channels, elements, dtype, setup)
          end
        end
      end)
    end

    it("of channels: only the gradients that are wanted, of any dtype, and of nothing", function()
      local x, dy = fp8.randn(4, 3, 16, on), fp8.randn(4, 3, 16, on)
      local function grads(which, gradient)
        local t = {x = x:clone(), weight = fp8.full({3}, 1.5, on), bias = fp8.ones(3, on)}
        for name in which:gmatch "%S+" do t[name]:requires_grad_() end
        batch_norm(t.x, t.weight, t.bias, 1e-5):backward(gradient)
        return t
      end
      local all = grads("x weight bias", dy)
      for _, name in ipairs {"x", "weight", "bias"} do
        support.same_bytes(grads(name, dy)[name].grad, all[name].grad)
      end
      local empty, weight = fp8.zeros(0, 3, 4, on):requires_grad_(), fp8.ones(3, on):requires_grad_()
      local y, mean = batch_norm(empty, weight, fp8.zeros(3, on), 1e-5)
      y:sum():backward()
      assert.same({0, 3, 4}, empty.grad.shape)
      support.equal(weight.grad, fp8.zeros(3, on))
      assert.equal(1, mean:isnan():all():item())
    end)

    it("of channels shows what is not finite in its channel only", function()
      for _, bad in ipairs {0 / 0, math.huge} do
        for _, place in ipairs {1, 7} do
          local x = fp8.randn(3, 2, 8, on)
          x[2][1][place]:fill_(bad)
          x[1][1][1]:fill_(bad)
          local y, mean = batch_norm(x, nil, nil, 1e-5)
          assert.equal(1, y:select(2, 1):isnan():all():item())
          assert.equal(1, y:select(2, 2):isfinite():all():item())
          local first = mean[1]:item()
          assert.is_true(bad == math.huge and first == bad or first ~= first)
        end
      end
    end)

    it("takes any strides, and any number of dimensions", function()
      local x, weight = fp8.randn(5, 4, 6, on), fp8.randn(5, on)
      local turned = x:transpose(1, 3)
      support.close(fp8.layer_norm(turned, weight), fp8.layer_norm(turned:contiguous(), weight), 1e-7)
      support.equal(fp8.rms_norm(turned, weight), fp8.rms_norm(turned:contiguous(), weight:clone()))
      assert.same({5}, fp8.layer_norm(fp8.randn(5, on)).shape)
      assert.same({0, 5}, fp8.layer_norm(fp8.randn(0, 5, on), weight).shape)
      local expanded = fp8.randn(1, 8, on):expand(3, 8)
      support.equal(fp8.layer_norm(expanded), fp8.layer_norm(expanded:contiguous()))
    end)

    it("leaves gradients of zero for no rows", function()
      local x = fp8.zeros(0, 8, on):requires_grad_()
      local weight, bias = fp8.ones(8, on):requires_grad_(), fp8.ones(8, on):requires_grad_()
      fp8.layer_norm(x, weight, bias):sum():backward()
      assert.same({0, 8}, x.grad.shape)
      support.equal(weight.grad, fp8.zeros(8, on))
      support.equal(bias.grad, fp8.zeros(8, on))
    end)

    it("computes only the gradients that are wanted", function()
      local x, dy = fp8.randn(4, 16, on), fp8.randn(4, 16, on)
      local function grads(which)
        local t = {x = x:clone(), weight = fp8.full({16}, 1.5, on), bias = fp8.ones(16, on)}
        for name in which:gmatch "%S+" do t[name]:requires_grad_() end
        fp8.layer_norm(t.x, t.weight, t.bias):backward(dy)
        return t
      end
      local all = grads "x weight bias"
      for _, name in ipairs {"x", "weight", "bias"} do
        support.close(grads(name)[name].grad, all[name].grad, 1e-6)
      end
      support.close(grads("x bias").x.grad, all.x.grad, 1e-6)
    end)

    it("adds its gradient to what has arrived at its input", function()
      for _, dtype in ipairs {"f32", "bf16"} do
        for _, columns in ipairs {7, 64, 1000, 1024} do
          local at = {device = device, dtype = dtype}
          local start, other, dy = fp8.randn(5, columns, at), fp8.randn(5, columns, at), fp8.randn(5, columns, at)
          local function gradient(residual)
            local x = start:clone():requires_grad_()
            local y = fp8.layer_norm(x * 1)
            if residual then
              local stream = x * 1
              y = stream:t():t() * other + fp8.layer_norm(stream)
            end
            y:backward(dy)
            return x.grad:to "f32"
          end
          local separate = gradient(false) + (dy:to "f32") * (other:to "f32")
          support.close(gradient(true), separate, support.tolerance[dtype])
        end
      end
    end)

    it("is exact where rows are constant, and shows NaN in its row only", function()
      support.equal(fp8.layer_norm(fp8.full({2, 24}, 7, on), nil, fp8.full({24}, 3, on)), fp8.full({2, 24}, 3, on))
      support.equal(fp8.layer_norm(fp8.full({2, 7}, 7, on)), fp8.zeros(2, 7, on))
      for _, columns in ipairs {24, 7} do
        for _, bad in ipairs {0 / 0, math.huge} do
          local x = fp8.randn(3, columns, on)
          x[2][columns]:fill_(bad)
          local y = fp8.layer_norm(x):totable()
          for i = 1, columns do
            assert.is_true(y[1][i] == y[1][i] and y[2][i] ~= y[2][i] and y[3][i] == y[3][i])
          end
        end
      end
    end)

    it("knows rows far from 0 whose elements are close together, forwards and backwards", function()
      for _, columns in ipairs {5, 48, 1100} do
        for _, far in ipairs {1e3, -2e4, 3e7} do
          local steps, grad = {}, {}
          local unit = math.abs(far) * 2 ^ -20
          for i = 1, 2 * columns do steps[i], grad[i] = far + unit * (i * i % 23), math.sin(i) end
          local x = fp8.tensor(steps, on):view(2, columns):requires_grad_()
          local dy = fp8.tensor(grad, on):view(2, columns)
          local y = fp8.layer_norm(x, nil, nil, 1e-12)
          y:backward(dy)
          local want_y, want_dx = normalize(support.flat(x:detach()), nil, nil, support.flat(dy), 2, columns, 1e-12,
            true)
          close(y:detach(), want_y, "f32")
          close(x.grad, want_dx, "f32")
        end
      end
    end)

    it("squares no element beyond float32, nor to nothing", function()
      for _, rms in ipairs {false, true} do
        for _, columns in ipairs {6, 64, 1029} do
          for _, size in ipairs {3e38, 2e25, 1.5e19, 1e-20, 3e-26} do
            local values, grad = {}, {}
            for i = 1, columns do values[i], grad[i] = size * math.cos(i * i), math.sin(i) end
            values[2] = -size -- half a row's range is more than float32 holds
            for i = 3, columns, 2 do values[i] = size end
            local x = fp8.tensor(values, on):view(1, columns):requires_grad_()
            local dy = fp8.tensor(grad, on):view(1, columns)
            local y = rms and fp8.rms_norm(x, nil, 0) or fp8.layer_norm(x, nil, nil, 0)
            y:backward(dy)
            local want_y, want_dx = normalize(support.flat(x:detach()), nil, nil, support.flat(dy), 1, columns, 0,
              not rms)
            close(y:detach(), want_y, "f32")
            if size < 1e25 then
              for i = 1, columns do want_dx[i] = want_dx[i] * size end
              close(x.grad * size, want_dx, "f32")
            end
          end
        end
      end
    end)

    it("gives the same bits every time", function()
      local x = fp8.randn(500, 40, on):requires_grad_()
      local weight = fp8.randn(40, on):requires_grad_()
      local dy, first = fp8.randn(500, 40, on), nil
      for _ = 1, 3 do
        x.grad, weight.grad = nil, nil
        fp8.layer_norm(x, weight):backward(dy)
        first = first or {x.grad, weight.grad}
        support.equal(x.grad, first[1])
        support.equal(weight.grad, first[2])
      end
    end)

    it("refuses what does not fit, by name", function()
      local x = fp8.randn(3, 4, on)
      fails("layer_norm: the weight must have shape (4), got (3)", fp8.layer_norm, x, fp8.ones(3, on))
      fails("layer_norm: the bias must have shape (4), got (2, 2)", fp8.layer_norm, x, nil, fp8.ones(2, 2, on))
      fails("rms_norm: the weight must have shape (4)", fp8.rms_norm, x, fp8.ones(5, on))
      fails('layer_norm: the input is f32, the weight bf16: write x:to "bf16" or layer:to "f32"', fp8.layer_norm, x,
        fp8.ones(4, {device = device, dtype = "bf16"}))
      fails("layer_norm: epsilon must be at least 0 and finite, got -1", fp8.layer_norm, x, nil, nil, -1)
      fails("layer_norm: epsilon must be", fp8.layer_norm, x, nil, nil, 0 / 0)
      fails("layer_norm: argument 4: number expected", fp8.layer_norm, x, nil, nil, "1")
      fails("layer_norm: the input must be f32, f16 or bf16, got i64", fp8.layer_norm, fp8.randint(0, 9, {4}, on))
      fails("rms_norm: the input must be f32, f16 or bf16, got e4m3", fp8.rms_norm, x:to "e4m3")
      fails("last dimension must not be empty, got shape (3, 0)", fp8.layer_norm, fp8.zeros(3, 0, on))
      fails("last dimension must not be empty, got shape ()", fp8.rms_norm, fp8.tensor(1, on))
      fails("layer_norm: argument 1: tensor expected, got nil", fp8.layer_norm)
      if device ~= "cpu" then fails("different devices", fp8.layer_norm, x, fp8.ones(4, {device = "cpu"})) end
    end)
  end)
end)

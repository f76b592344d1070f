-- Patches, pooling, padding and convolutions: dtypes, NaNs, nothing, errors, and what both devices and runs have in
-- common. pytorch_spec has values and gradients.
local core = require "fp8.core"
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails
local floats = {"f32", "f16", "bf16"}

--- Small whole numbers, which every dtype holds, and so are their sums.
local function whole(device, dtype, ...)
  return fp8.randint(-3, 4, {...}, {device = device, dtype = "f32"}):to(dtype)
end

support.each_device(function(device)
  local on = {device = device}

  --- Asserts that sums that could be exact are; float32 ones on a GPU may be those of transformed numbers, by cuDNN.
  local function same_sums(actual, expected)
    if device == "cpu" or actual.dtype ~= "f32" then return support.same_bytes(actual, expected) end
    assert.same(expected.shape, actual.shape)
    support.close(actual, expected)
  end

  describe("Windows of a dimension", function()
    it("are a view: what is written shows, and is refused where they overlap", function()
      local x = fp8.zeros(6, on)
      local windows = x:unfold(1, 2, 2)
      windows:copy_(fp8.arange(6, on):view(3, 2))
      assert.same({0, 1, 2, 3, 4, 5}, x:totable())
      x:fill_(1)
      assert.equal(6, windows:sum():item())
      fails("can't write to windows that overlap", function() x:unfold(1, 3, 1):zero_() end)
      fails("can't write to windows that overlap", function() x:view(2, 3):unfold(2, 2, 1):add_(1) end)
      assert.equal(6, x:sum():item())
      assert.same({{1, 1}}, x:unfold(1, 2, 2 ^ 52):totable())
      assert.same({7, 0}, x:unfold(1, 0, 1).shape)
    end)

    it("multiply as matrices though rows overlap", function()
      local x = fp8.arange(9, on)
      local windows = x:unfold(1, 4, 1)
      support.equal(windows:matmul(fp8.eye(4, 4, on)), windows:contiguous())
      support.equal(windows:t():matmul(fp8.eye(6, 6, on)), windows:t():contiguous())
    end)

    it("are checked", function()
      local x = fp8.zeros(2, 3, on)
      fails("unfold: windows of size 4 do not fit dimension 2 of size 3", x.unfold, x, 2, 4, 1)
      fails("unfold: the step must be a whole number from 1 on, got 0", x.unfold, x, 2, 2, 0)
      fails("unfold: dimension 3 of a tensor of 2 dimensions", x.unfold, x, 3, 1, 1)
    end)
  end)

  describe("Patches", function()
    it("are the same bits in every dtype, in both layouts", function()
      local x = fp8.randint(0, 100, {2, 3, 9, 70}, {device = device, dtype = "i64"})
      for _, dtype in ipairs {"f32", "f16", "bf16", "e4m3", "e5m2", "u8", "i32", "i64"} do
        local own = x:remainder(8):to(dtype)
        for _, window in ipairs {{3, 3, 1, 1, 1, 1, 1, 1, 1, 1}, {2, 3, 2, 3, 3, 2, 0, 1, 2, 0}} do
          local columns = core.unfold_patches(own, false, unpack(window))
          assert.equal(dtype, columns.dtype)
          support.equal(columns:float(), core.unfold_patches(x:remainder(8):float(), false, unpack(window)))
          support.same_bytes(core.unfold_patches(own, true, unpack(window)):transpose(2, 3):contiguous(), columns)
        end
      end
    end)

    it("of nothing are nothing", function()
      assert.same({0, 12, 4}, fp8.unfold(fp8.zeros(0, 3, 3, 3, on), {2, 2}).shape)
      assert.same({2, 0, 4}, fp8.unfold(fp8.zeros(2, 0, 3, 3, on), {2, 2}).shape)
      local x = fp8.zeros(0, 12, 4, {device = device, requires_grad = true})
      fp8.fold(x, 3, {2, 2}):sum():backward()
      assert.same({0, 12, 4}, x.grad.shape)
    end)

    it("are checked", function()
      local x = fp8.zeros(1, 2, 4, 4, on)
      fails("unfold: a kernel that spans 5 positions does not fit a size of 4 with a padding of 0", fp8.unfold, x,
        {5, 1})
      fails("unfold: stride must be a whole number from 1 on, or a list of them, got 0", fp8.unfold, x, 2, {stride = 0})
      fails("unfold: padding must be a number or a list of 2, got 3", fp8.unfold, x, 2, {padding = {1, 1, 1}})
      fails("unknown option strides", fp8.unfold, x, 2, {strides = 1})
      fails("unfold: option stride is given twice", fp8.unfold, x, {2, 2}, 1, 0, 2, {stride = 2})
      fails("the input must be (images, channels, height, width), with or without images, got shape (4)",
        fp8.unfold, fp8.zeros(4, on), {1, 1})
      fails("fold: 3 elements of a patch are no multiple of 4", fp8.fold, fp8.zeros(3, 4, on), 3, 2)
      fails("fold: an output of (3, 3) has 4 patches, got 5", fp8.fold, fp8.zeros(4, 5, on), 3, 2)
    end)
  end)

  describe("Padding", function()
    it("keeps every dtype, and integers exact", function()
      for _, dtype in ipairs {"f32", "f16", "bf16", "e4m3", "e5m2", "u8", "i32", "i64"} do
        local x = fp8.tensor({1, 2, 3}, on):to(dtype)
        for mode, expected in pairs {
          constant = {0, 1, 2, 3, 0, 0}, reflect = {2, 1, 2, 3, 2, 1}, replicate = {1, 1, 2, 3, 3, 3},
          circular = {3, 1, 2, 3, 1, 2},
        } do
          local y = x:pad({1, 2}, mode)
          assert.equal(dtype, y.dtype)
          assert.same(expected, y:float():totable())
        end
      end
      local big = fp8.tensor({9007199254740993LL}, {dtype = "i64", device = device})
      assert.equal(9007199254740993LL, big:pad({1, 1})[2]:item())
    end)

    it("of nothing is what it is padded with", function()
      assert.same({1.5, 1.5}, fp8.zeros(0, on):pad({2, 0}, "constant", 1.5):totable())
      assert.same({0, 5}, fp8.zeros(0, 3, on):pad({1, 1}, "circular").shape)
      local x = fp8.tensor({1, 2}, on)
      local y = x:pad({0, 0})
      y:fill_(3)
      assert.same({1, 2}, x:totable())
    end)

    it("is checked", function()
      local x = fp8.zeros(2, 3, on)
      fails("pad: 3 amounts are no pairs for up to 2 dimensions", x.pad, x, {1, 2, 3})
      fails("pad: 3 before a dimension of 3 positions is too much for mode reflect", x.pad, x, {3, 0}, "reflect")
      fails("pad: 4 after a dimension of 3 positions is too much for mode circular", x.pad, x, {0, 4}, "circular")
      fails("pad: 1 before a dimension of 0 positions is too much for mode replicate", x.pad, fp8.zeros(0, on), {1, 0},
        "replicate")
      fails("pad: -2 and -2 take more from dimension 2 than its 3 positions", x.pad, x, {-2, -2})
      fails("pad: mode must be constant, reflect, replicate or circular, got mirror", x.pad, x, {1, 1}, "mirror")
      fails("pad: mode reflect takes no value", x.pad, x, {1, 1}, "reflect", 2)
      fails("pad: an amount must be a whole number, got 0.5", x.pad, x, {0.5, 1})
    end)
  end)

  describe("Pooling", function()
    it("rounds means once, and finds the largest, in every float dtype", function()
      for _, dtype in ipairs(floats) do
        local x = fp8.randn(2, 3, 9, 10, on):to(dtype)
        for _, name in ipairs {"max_pool2d", "avg_pool2d"} do
          local y = fp8[name](x, 3, 2, 1)
          assert.equal(dtype, y.dtype)
          support.same_bytes(y, fp8[name](x:float(), 3, 2, 1):to(dtype))
        end
        support.same_bytes(fp8.adaptive_avg_pool2d(x, 4), fp8.adaptive_avg_pool2d(x:float(), 4):to(dtype))
      end
    end)

    it("finds the largest of squares and small windows where a search of all of them does", function()
      local nan = 0 / 0
      for _, dtype in ipairs(floats) do
        for _, size in ipairs {{3, 16, 24}, {2, 7, 16}, {5, 6, 10}} do
          local x = whole(device, dtype, unpack(size))
          x[1][2][3]:fill_(nan)
          for _, given in ipairs {{2, 2, 0}, {2, 1, 1}, {3, 2, 1}} do
            local side, stride, padding = unpack(given)
            local values = x:float():totable()
            local y, positions = fp8.max_pool2d(x, side, stride, padding, {return_indices = true})
            support.same_bytes(y, fp8.max_pool2d(x, side, stride, padding))
            local found, where_from = y:float():totable(), positions:totable()
            for c = 1, size[1] do
              for i = 1, y:size(2) do
                for j = 1, y:size(3) do
                  local best, place = -math.huge, nil
                  for u = 0, side - 1 do
                    for v = 0, side - 1 do
                      local a, b = (i - 1) * stride - padding + u, (j - 1) * stride - padding + v
                      local value = values[c][a + 1] and values[c][a + 1][b + 1]
                      if value and (value > best or value ~= value) then best, place = value, a * size[3] + b end
                    end
                  end
                  assert.equal(tostring(best):gsub("-nan", "nan"), tostring(found[c][i][j]):gsub("-nan", "nan"))
                  assert.equal(place, where_from[c][i][j])
                end
              end
            end
          end
        end
      end
    end)

    it("takes NaN for the largest, the first of equal ones, and minus infinity for something", function()
      local nan, inf = 0 / 0, math.huge
      local x = fp8.tensor({{1, nan, 3, 2, 2, 2, -inf, -inf, -inf}}, on):requires_grad_()
      local y, positions = fp8.max_pool1d(x, 3, {return_indices = true})
      support.equal(y:detach(), fp8.tensor({{nan, 2, -inf}}, on))
      assert.same({{1, 3, 6}}, positions:totable())
      y:sum():backward()
      assert.same({{0, 1, 0, 1, 0, 0, 1, 0, 0}}, x.grad:totable())
    end)

    it("does not overflow where the mean does not", function()
      assert.is_true(fp8.avg_pool1d(fp8.full({1, 4}, 3e38, on), 4):item() > 2.9e38)
      assert.is_true(fp8.adaptive_avg_pool1d(fp8.full({1, 4}, -3e38, on), 1):item() < -2.9e38)
    end)

    it("gives an element the gradients of all windows that it is in", function()
      local x = fp8.zeros(1, 1, 5, 5, {device = device, requires_grad = true})
      fp8.avg_pool2d(x, 3, 1):sum():backward()
      assert.near(1, x.grad[1][1][3][3]:item(), 1e-6)
      local top = fp8.zeros(1, 1, 5, 5, on)
      top[1][1][3][3]:fill_(1)
      top:requires_grad_()
      fp8.max_pool2d(top, 3, 1):sum():backward()
      assert.equal(9, top.grad[1][1][3][3]:item())
    end)

    it("of nothing is nothing", function()
      local x = fp8.zeros(0, 3, 4, 4, {device = device, requires_grad = true})
      local y = fp8.max_pool2d(x, 2)
      assert.same({0, 3, 2, 2}, y.shape)
      y:sum():backward()
      assert.same({0, 3, 4, 4}, x.grad.shape)
      assert.same({2, 0, 1, 1}, fp8.avg_pool2d(fp8.zeros(2, 0, 2, 2, on), 2).shape)
      assert.same({2, 3, 0, 0}, fp8.adaptive_avg_pool2d(fp8.zeros(2, 3, 4, 4, on), 0).shape)
    end)

    it("is checked", function()
      local x = fp8.zeros(1, 2, 4, 4, on)
      fails("max_pool2d: a padding of 2 is more than half of the kernel, which spans 3", fp8.max_pool2d, x, 3, 1, 2)
      fails("avg_pool2d: divisor_override must be a whole number other than 0, got 0", fp8.avg_pool2d, x, 2,
        {divisor_override = 0})
      fails("max_pool2d: the input must be f32, f16 or bf16, got i64", fp8.max_pool2d, x:to "i64", 2)
      fails("max_pool2d: a kernel that spans 5 positions does not fit a size of 4", fp8.max_pool2d, x, 5)
      fails("adaptive_avg_pool2d: the output size must be a number or a list of 2, got 1", fp8.adaptive_avg_pool2d, x,
        {1})
      fails("avg_pool1d: 3 arguments too many", fp8.avg_pool1d, x[1], 2, 1, 0, false, true, 2, 3, 4, 5)
    end)
  end)

  describe("A convolution", function()
    it("of large images together is that of each", function()
      local x, bias = whole(device, "f32", 3, 4, 32, 40), whole(device, "f32", 5)
      for _, side in ipairs {1, 3} do
        local weight, padding = whole(device, "f32", 5, 4, side, side), {padding = (side - 1) / 2}
        for _, dtype in ipairs(floats) do
          local own, filters, offset = x:to(dtype), weight:to(dtype), bias:to(dtype)
          local y = fp8.conv2d(own, filters, offset, padding)
          for i = 1, 3 do
            same_sums(fp8.conv2d(own:narrow(1, i, 1), filters, offset, padding), y:narrow(1, i, 1))
          end
        end
      end
    end)

    it("is exact where sums are, in every float dtype and with f32 weights", function()
      for _, case in ipairs {{{2, 4, 7, 6}, {6, 4, 3, 3}, 1}, {{3, 4, 5, 5}, {8, 2, 1, 1}, 2}} do
        local x, w = whole(device, "f32", unpack(case[1])), whole(device, "f32", unpack(case[2]))
        local b, options = whole(device, "f32", case[2][1]), {padding = 1, stride = 2, groups = case[3]}
        local dy
        local function run(dtype, weight_dtype)
          local inputs = {x:detach():to(dtype), w:detach():to(weight_dtype), b:detach():to(weight_dtype)}
          for i = 1, 3 do inputs[i] = inputs[i]:clone():requires_grad_() end
          local y = fp8.conv2d(inputs[1], inputs[2], inputs[3], options)
          dy = dy or whole(device, "f32", unpack(y.shape))
          y:backward(dy:to(dtype))
          return y, inputs[1].grad, inputs[2].grad, inputs[3].grad
        end
        local expected = {run("f32", "f32")}
        for _, dtype in ipairs(floats) do
          for _, weight_dtype in ipairs {dtype, "f32"} do
            local found = {run(dtype, weight_dtype)}
            for i, dtypes in ipairs {dtype, dtype, weight_dtype, weight_dtype} do
              assert.equal(dtypes, found[i].dtype)
              same_sums(found[i]:detach(), expected[i]:detach():to(dtypes))
            end
          end
        end
      end
    end)

    it("of many images is that of each, gradients too", function()
      local x = whole(device, "f32", 5, 32, 90, 90):requires_grad_()
      local w, b = whole(device, "f32", 2, 32, 3, 3):requires_grad_(), whole(device, "f32", 2):requires_grad_()
      local y = fp8.conv2d(x, w, b, {padding = 1})
      local dy = whole(device, "f32", 5, 2, 90, 90)
      y:backward(dy)
      local dx, dw = x.grad, w.grad
      x.grad, w.grad, b.grad = nil, nil, nil
      for i = 1, 5 do
        local part = fp8.conv2d(x[i], w, b, {padding = 1})
        same_sums(part:detach(), y[i]:detach())
        part:backward(dy[i])
      end
      same_sums(x.grad, dx)
      same_sums(w.grad, dw)
      support.same_bytes(b.grad, dy:sum({1, 3, 4}))
    end)

    it("has the same gradients in both ways: of more channels, one of which is 0, patches of dy serve", function()
      local x, w = whole(device, "f32", 2, 1, 7, 6), whole(device, "f32", 5, 1, 3, 2)
      local wide_x, wide_w = fp8.cat({x, x * 0}, 2):requires_grad_(), fp8.cat({w, w * 0}, 2):requires_grad_()
      x, w = x:requires_grad_(), w:requires_grad_()
      for _, options in ipairs {{}, {padding = {1, 0}}, {padding = {2, 1}, dilation = {2, 1}}, {padding = "same"}} do
        local y, wide_y = fp8.conv2d(x, w, nil, options), fp8.conv2d(wide_x, wide_w, nil, options)
        local dy = whole(device, "f32", unpack(y.shape))
        y:backward(dy)
        wide_y:backward(dy)
        same_sums(wide_y:detach(), y:detach())
        same_sums(wide_x.grad:narrow(2, 1, 1):contiguous() + 0, x.grad + 0)
        same_sums(wide_w.grad:narrow(2, 1, 1):contiguous() + 0, w.grad + 0)
        for _, tensor in ipairs {x, w, wide_x, wide_w} do tensor.grad = nil end
      end
    end)

    it("of nothing is the bias, or nothing", function()
      local x = fp8.zeros(0, 3, 4, 4, {device = device, requires_grad = true})
      local w = fp8.ones(2, 3, 3, 3, {device = device, requires_grad = true})
      local y = fp8.conv2d(x, w)
      assert.same({0, 2, 2, 2}, y.shape)
      y:sum():backward()
      assert.same({0, 3, 4, 4}, x.grad.shape)
      assert.equal(0, w.grad:abs():max():item())
      local b = fp8.tensor({1, 2}, on)
      assert.same({1, 2}, fp8.conv2d(fp8.zeros(1, 0, 2, 2, on), fp8.zeros(2, 0, 2, 2, on), b):view(2):totable())
    end)

    it("needs only what is asked for", function()
      local x, w = fp8.randn(2, 3, 5, 5, on), fp8.randn(4, 3, 3, 3, on)
      for i = 1, 2 do
        local inputs = {x:clone(), w:clone()}
        inputs[i]:requires_grad_()
        fp8.conv2d(inputs[1], inputs[2]):sum():backward()
        assert.is_nil(inputs[3 - i].grad)
        assert.is_truthy(inputs[i].grad)
      end
    end)

    it("is checked", function()
      local x, w = fp8.zeros(1, 2, 4, 4, on), fp8.zeros(3, 2, 3, 3, on)
      fails("conv2d: input (1, 2, 4, 4) and weight (3, 3, 3, 3): 2 channels and 3 outputs do not fit in 1 group",
        fp8.conv2d, x, fp8.zeros(3, 3, 3, 3, on))
      fails("2 channels and 3 outputs do not fit in 2 groups", fp8.conv2d, x, w, nil, {groups = 2})
      fails("conv2d: the bias must have shape (3), got (2)", fp8.conv2d, x, w, fp8.zeros(2, on))
      fails('conv2d: the input is f16, the weight bf16: write x:to "bf16" or layer:to "f16"', fp8.conv2d, x:to "f16",
        w:to "bf16")
      fails("conv2d: padding same is for a stride of 1", fp8.conv2d, x, w, nil, {padding = "same", stride = 2})
      fails("conv2d: padding must be numbers, same or valid, got full", fp8.conv2d, x, w, nil, {padding = "full"})
      fails("conv1d: argument 2: a tensor of 3 dimensions is needed, got shape (3, 2, 3, 3)", fp8.conv1d, x, w)
      fails("a kernel that spans 7 positions does not fit a size of 4", fp8.conv2d, x, w, nil, {dilation = 3})
    end)
  end)
end)

describe("Patches on other devices", function()
  it("have the bits of the CPU's, sums and means included", function()
    local x = fp8.randn(3, 5, 13, 22)
    for _, device in ipairs(support.devices) do
      for _, dtype in ipairs(floats) do
        local own, there = x:to(dtype), x:to(dtype):to(device)
        local function same(f)
          local a, b = own:clone():requires_grad_(), there:clone():requires_grad_()
          local ya, yb = f(a), f(b)
          support.same_bytes(yb:detach(), ya:detach())
          local dy = fp8.randn(ya.shape):to(dtype)
          ya:backward(dy)
          yb:backward(dy:to(device))
          support.same_bytes(b.grad, a.grad)
        end
        same(function(t) return fp8.unfold(t, 3, {padding = 1, stride = {1, 2}}) end)
        same(function(t) return fp8.unfold(t, {2, 3}, {dilation = 2}) end)
        same(function(t) return fp8.avg_pool2d(t, 3, 2, 1) end)
        same(function(t) return fp8.max_pool2d(t, 3, 1, 1) end)
        same(function(t) return fp8.adaptive_avg_pool2d(t, {5, 7}) end)
        same(function(t) return t:unfold(-1, 5, 2) end)
      end
    end
  end)
end)

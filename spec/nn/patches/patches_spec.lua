-- Convolutions, pooling and normalization by channels as modules: options, recipes, state, conversion.
local fp8 = require "fp8"
local support = require "spec.support"
local core = require "fp8.core"

local nn, fails = fp8.nn, support.fails

support.each_device(function(device)
  local on = {device = device}

  --- A layer's weight and bias are those of another one.
  local function same_values(layer, other)
    layer:load_state_dict(other:state_dict())
    return layer
  end

  describe("Conv2d", function()
    it("is conv2d with its weight, by PyTorch's names of options", function()
      local layer = nn.Conv2d(4, 6, {3, 2},
        {stride = {1, 2}, padding = {1, 0}, dilation = 2, groups = 2, device = device})
      assert.same({6, 2, 3, 2}, layer.weight.shape)
      local x = fp8.randn(2, 4, 8, 9, on)
      support.same_bytes(layer(x):detach(),
        fp8.conv2d(x, layer.weight:detach(), layer.bias:detach(), {1, 2}, {1, 0}, 2, 2))
      support.close(layer(x[1]):detach(), layer(x)[1]:detach(), 1e-6) -- products of other shapes add in another order
      assert.same({6, 2, 3}, nn.Conv1d(2, 6, 3, on).weight.shape)
      assert.is_nil(nn.Conv2d(1, 2, 3, 1, 0, 1, 1, false).bias)
      assert.is_true(layer.weight:abs():max():item() <= 1 / math.sqrt(12))
    end)

    it("pads by other modes", function()
      local x = fp8.randn(2, 3, 5, 6, on)
      for _, mode in ipairs {"reflect", "replicate", "circular"} do
        local layer = nn.Conv2d(3, 4, {3, 4}, {padding = {1, 2}, padding_mode = mode, device = device})
        support.same_bytes(layer(x):detach(),
          fp8.conv2d(x:pad({2, 2, 1, 1}, mode), layer.weight:detach(), layer.bias:detach()))
        local same = nn.Conv2d(3, 4, {3, 4}, {padding = "same", padding_mode = mode, device = device})
        support.same_bytes(same(x):detach(),
          fp8.conv2d(x:pad({1, 2, 1, 1}, mode), same.weight:detach(), same.bias:detach()))
      end
    end)

    it("is a linear layer of patches with any recipe, in every dtype", function()
      fp8.set_deterministic(true) -- else each could take another algorithm
      finally(function() fp8.set_deterministic(false) end)
      local names = {}
      for name in pairs(fp8.recipes) do names[#names + 1] = tostring(name) end
      table.sort(names)
      for _, name in ipairs(names) do
        for _, dtype in ipairs {"f32", "bf16"} do
          local layer = nn.Conv2d(16, 32, 3, {padding = 1, stride = 2, recipe = name, device = device}):to(dtype)
          local linear = fp8.Linear(144, 32, {recipe = name, device = device}):to(dtype)
          core.copy_(linear.weight:detach(), layer.weight:detach():view(32, 144))
          core.copy_(linear.bias:detach(), layer.bias:detach())
          local x = fp8.randn(2, 16, 8, 8, on):to(dtype)
          local first, second = x:clone():requires_grad_(), x:clone():requires_grad_()
          local rows = fp8.unfold(second, {3, 3}, {padding = 1, stride = 2}):transpose(2, 3):reshape(32, 144)
          fp8.manual_seed(5) -- recipes draw signs and roundings
          local y = layer(first)
          fp8.manual_seed(5)
          local expected = linear(rows):view(2, 16, 32):transpose(2, 3):reshape(2, 32, 4, 4)
          support.same_bytes(y:detach(), expected:detach())
          local dy = fp8.randn(y.shape, on):to(dtype)
          fp8.manual_seed(6)
          y:backward(dy)
          fp8.manual_seed(6)
          expected:backward(dy)
          support.same_bytes(first.grad, second.grad)
          support.same_bytes(layer.weight.grad:view(32, 144), linear.weight.grad)
          support.same_bytes(layer.bias.grad, linear.bias.grad)
        end
      end
    end)

    it("is close to itself without a recipe, and trains", function()
      local plain = nn.Conv2d(8, 16, 3, {padding = "same", device = device})
      local x = fp8.randn(4, 8, 6, 6, on)
      for _, name in ipairs {"mixed", "rowwise", "mx", "delayed"} do
        local layer = same_values(nn.Conv2d(8, 16, 3, {padding = "same", recipe = name, device = device}), (function()
          local other = nn.Conv2d(8, 16, 3, {padding = "same", recipe = name, device = device})
          core.copy_(other.weight:detach(), plain.weight:detach())
          core.copy_(other.bias:detach(), plain.bias:detach())
          return other
        end)())
        assert.is_true(support.error(layer(x):detach(), plain(x):detach()) < 0.1)
        local optimizer, losses = fp8.optim.AdamW(layer, {lr = 0.01}), {}
        for i = 1, 8 do
          optimizer:zero_grad()
          local loss = layer(x):pow(2):mean()
          loss:backward()
          optimizer:step()
          losses[i] = loss:item()
        end
        assert.is_true(losses[8] < losses[1])
      end
    end)

    it("gets its recipe from convert, which leaves convolutions of several groups alone", function()
      local model = nn.Sequential(nn.Conv2d(2, 8, 3, on), nn.Conv2d(8, 8, 3, {groups = 8, device = device}),
        nn.Flatten(), fp8.Linear(8 * 16, 4, on))
      local weight = model[1].weight
      local _, count = fp8.convert(model, "global")
      assert.equal(2, count)
      assert.equal(weight, model[1].weight)
      assert.is_truthy(tostring(model):find("Conv2d(2, 8, 3, recipe: global)", 1, true))
      assert.is_truthy(tostring(model):find("Conv2d(8, 8, 3, groups = 8)", 1, true))
      assert.same({3, 4}, model(fp8.randn(3, 2, 8, 8, on)).shape)
      fp8.convert(model, false)
      assert.is_nil(model[1].recipe)
    end)

    it("is watched", function()
      local layer = nn.Conv2d(2, 4, 3, {recipe = "mixed", device = device})
      local watcher = fp8.watch(layer, {every = 1})
      layer(fp8.randn(2, 2, 5, 5, on)):sum():backward()
      watcher:step()
      local seen = {}
      for _, row in ipairs(watcher:rows()) do seen[row.tensor] = true end
      watcher:close()
      assert.is_true(seen.input and seen.weight and seen.grad_output)
    end)

    it("takes an empty batch", function()
      for _, recipe in ipairs {false, "mixed", "rowwise"} do
        local layer = nn.Conv2d(2, 4, 3, {recipe = recipe or nil, device = device})
        local x = fp8.zeros(0, 2, 5, 6, {device = device, requires_grad = true})
        local y = layer(x)
        assert.same({0, 4, 3, 4}, y.shape)
        y:sum():backward()
        assert.same({0, 2, 5, 6}, x.grad.shape)
      end
    end)

    it("is checked", function()
      fails("Conv2d: in_channels must be a whole number of at least 1, got 0", nn.Conv2d, 0, 1, 1)
      fails("Conv2d: kernel_size must be a number or a list of 2, got 1", nn.Conv2d, 1, 1, {3})
      fails("Conv2d: 4 channels and 3 outputs are no multiples of 2 groups", nn.Conv2d, 4, 3, 1, {groups = 2})
      fails("Conv2d: a recipe is for convolutions of one group, this one has 2", nn.Conv2d, 4, 4, 1,
        {groups = 2, recipe = "mixed"})
      fails("Conv2d: padding_mode must be zeros, reflect, replicate or circular, got mirror", nn.Conv2d, 1, 1, 1,
        {padding_mode = "mirror"})
      fails("Conv2d: unknown option strides; did you mean stride?", nn.Conv2d, 1, 1, 1, {strides = 2})
      fails("Conv2d: option bias must be a boolean, got number", nn.Conv2d, 1, 1, 1, 1, 0, 1, 1, 5)
      local layer = nn.Conv2d(3, 4, 3, {recipe = "mixed", device = device})
      fails("Conv2d: input (1, 2, 5, 5) and weight (4, 3, 3, 3): 2 channels", layer, fp8.zeros(1, 2, 5, 5, on))
      fails("Conv2d: a kernel that spans 3 positions does not fit a size of 2", layer, fp8.zeros(1, 3, 2, 5, on))
      fails("Conv2d: it takes one input and nothing else", layer, fp8.zeros(1, 3, 5, 5, on), 1)
    end)
  end)

  describe("Pooling modules", function()
    it("are the functions of their names", function()
      local x, signal = fp8.randn(2, 3, 6, 7, on), fp8.randn(2, 3, 9, on)
      support.equal(nn.MaxPool2d(2)(x), fp8.max_pool2d(x, 2))
      support.equal(nn.MaxPool2d(3, {stride = 1, padding = 1})(x), fp8.max_pool2d(x, 3, 1, 1))
      support.equal(nn.AvgPool2d({2, 3}, 1)(x), fp8.avg_pool2d(x, {2, 3}, 1))
      support.equal(nn.AdaptiveAvgPool2d {2, 3}(x), fp8.adaptive_avg_pool2d(x, {2, 3}))
      support.equal(nn.AdaptiveMaxPool2d(2)(x), fp8.adaptive_max_pool2d(x, 2))
      support.equal(nn.MaxPool1d(3)(signal), fp8.max_pool1d(signal, 3))
      support.equal(nn.AvgPool1d(3)(signal), fp8.avg_pool1d(signal, 3))
      support.equal(nn.AdaptiveAvgPool1d(4)(signal), fp8.adaptive_avg_pool1d(signal, 4))
      support.equal(nn.AdaptiveMaxPool1d(4)(signal), fp8.adaptive_max_pool1d(signal, 4))
      local _, positions = nn.MaxPool2d(2, {return_indices = true})(x)
      assert.equal("i64", positions.dtype)
      assert.equal("MaxPool2d(3, {padding = 1, stride = 2})", tostring(nn.MaxPool2d(3, {stride = 2, padding = 1})))
    end)
  end)

  describe("BatchNorm2d", function()
    it("keeps its statistics in the state_dict, and in f32", function()
      local layer = nn.BatchNorm2d(3, on)
      assert.equal(2, #layer:parameters())
      local x = fp8.randn(4, 3, 5, 5, on) * 2 + 1
      layer(x)
      local state = layer:state_dict()
      assert.near(0.1 * x:mean({1, 3, 4})[2]:item(), state.running_mean[2]:item(), 1e-5)
      assert.equal(1, state.num_batches_tracked:item())
      local other = same_values(nn.BatchNorm2d(3, on), layer):eval()
      support.same_bytes(other(x):detach(), layer:eval()(x):detach())
      assert.equal(1, layer.num_batches_tracked:item())
      layer:to "bf16"
      assert.equal("bf16", layer.weight.dtype)
      assert.equal("f32", layer.running_var.dtype)
      assert.equal("bf16", layer(x:to "bf16").dtype)
    end)

    it("rounds once in 16 bits", function()
      for _, dtype in ipairs {"f16", "bf16"} do
        local layer = nn.BatchNorm2d(3, on)
        local x = fp8.randn(4, 3, 5, 5, on):to(dtype)
        support.same_bytes(layer(x):detach(), layer(x:float()):to(dtype):detach())
        local group = nn.GroupNorm(3, 3, on)
        support.same_bytes(group(x):detach(), group(x:float()):to(dtype):detach())
      end
    end)

    it("leaves the gradient that it gets as it is", function()
      local layer, x = nn.BatchNorm2d(3, on), fp8.randn(4, 3, 2, 2, {device = device, requires_grad = true})
      local y = layer(x)
      local dy = fp8.randn(y.shape, on)
      local before = dy:clone()
      y:backward(dy)
      support.same_bytes(dy, before)
    end)

    it("counts all batches alike without a momentum", function()
      local layer = nn.BatchNorm1d(2, {momentum = false, device = device})
      for i = 1, 3 do layer(fp8.tensor({{i, 0}, {i, 2}}, on)) end
      assert.near(2, layer.running_mean[1]:item(), 1e-6)
      assert.near(1, layer.running_mean[2]:item(), 1e-6)
      assert.near(2, layer.running_var[2]:item(), 1e-4)
    end)

    it("takes x's own statistics where it tracks none", function()
      local layer = nn.BatchNorm1d(4, {track_running_stats = false, affine = false, device = device}):eval()
      local x = fp8.randn(8, 4, on)
      assert.near(0, layer(x):mean(1):abs():max():item(), 1e-6)
      assert.same({}, layer:state_dict())
    end)

    it("has no trouble with means far from 0 and large values", function()
      local layer = nn.BatchNorm1d(1, on)
      support.close(layer(fp8.tensor({{16777216}, {16777218}}, on)):detach(), fp8.tensor({{-1}, {1}}, on), 1e-4)
      support.close(layer(fp8.tensor({{3e38}, {-3e38}}, on)):detach(), fp8.tensor({{1}, {-1}}, on), 1e-4)
    end)

    it("is checked, and changes nothing then", function()
      local layer = nn.BatchNorm2d(3, on)
      fails("BatchNorm2d: the input must have 4 dimensions, the second of 3 channels, got shape (2, 4, 5, 5)", layer,
        fp8.zeros(2, 4, 5, 5, on))
      fails("BatchNorm2d: more than one value of each channel is needed in training", layer, fp8.zeros(1, 3, 1, 1, on))
      assert.equal(0, layer.num_batches_tracked:item())
      fails("BatchNorm1d: option momentum must be a number from 0 to 1, or false, got 2", nn.BatchNorm1d, 3,
        {momentum = 2})
      fails("GroupNorm: 5 channels are no multiple of 2 groups", nn.GroupNorm, 2, 5)
      fails("GroupNorm: the input must have 2 to 8 dimensions, the second of 4 channels, got shape (4)",
        nn.GroupNorm(2, 4, on), fp8.zeros(4, on))
    end)
  end)
end)

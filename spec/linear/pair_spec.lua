-- Two linear layers with an activation function between them, computed as one, beside one after the other.
local fp8 = require "fp8"
local support = require "spec.support"

local same_bytes = support.same_bytes

-- {rows, in, hidden, out}: one that the fused kernels take, one with sides that they don't, a small one.
local shapes = {large = {1088, 64, 1024, 48}, odd = {37, 24, 40, 8}, small = {32, 16, 32, 16}}
local recipes = {"global_native", "delayed", "tensorwise", "mixed_native", "rowwise", "global", "mx"}
local activations = {
  gelu = function() return fp8.nn.GELU() end, gelu_tanh = function() return fp8.nn.GELU {approximate = "tanh"} end,
  silu = function() return fp8.nn.SiLU() end, relu = function() return fp8.nn.ReLU() end,
}

local function close(expected, found, tolerance)
  local difference = (expected:to("f32") - found:to("f32")):norm():item()
  local scale = expected:to("f32"):norm():item()
  assert.is_true(difference <= tolerance * scale, ("%g beside %g"):format(difference, scale))
end

-- An MLP and what computes it one by one: the same weights, histories of their own.
local function make(shape, options, device)
  local function layers()
    fp8.manual_seed(3)
    local first = fp8.Linear(shape[2], shape[3], {dtype = options.dtype, device = device, recipe = options.first})
    local second = fp8.Linear(shape[3], shape[4], {dtype = options.dtype, device = device, recipe = options.second})
    return first, second
  end
  local first, second = layers()
  local one, other = layers()
  local activation = activations[options.activation or "gelu_tanh"]()
  return fp8.nn.Sequential(first, activation, second), {first = one, activation = activation, second = other}
end

local function separately(parts, x) return parts.second(parts.activation(parts.first(x))) end

local function check_histories(fused, parts)
  for i, layer in ipairs {fused[1], fused[3]} do
    local other = i == 1 and parts.first or parts.second
    for field, tensor in pairs(layer:state_dict()) do
      if field:find "history" then same_bytes(other[field], tensor) end
    end
  end
end

-- Gradients of both, and results, after a step or more.
local function check(fused, parts, shape, options, device)
  for step = 1, options.steps or 1 do
    local x = (fp8.randn({shape[1], shape[2]}, {device = device}) * step):to(options.dtype or "f32")
    local x1, x2 = x:clone(), x:clone()
    if options.input ~= false then
      x1:requires_grad_()
      x2:requires_grad_()
    end
    local y1, y2 = fused(x1), separately(parts, x2)
    same_bytes(y2, y1)
    local grad = (fp8.randn({shape[1], shape[4]}, {device = device}) * 0.1):to(options.dtype or "f32")
    y1:backward(grad)
    y2:backward(grad)
    if options.input ~= false then same_bytes(x2.grad, x1.grad) end
    for _, pair in ipairs {{fused[1], parts.first}, {fused[3], parts.second}} do
      for _, name in ipairs {"weight", "bias"} do
        local found, expected = pair[1][name].grad, pair[2][name].grad
        assert.are.equal(expected == nil, found == nil)
        if found and name == "weight" then same_bytes(expected, found) end
        if found and name == "bias" then close(expected, found, options.dtype == "bf16" and 4e-3 or 1e-3) end
      end
      pair[1]:zero_grad()
      pair[2]:zero_grad()
    end
    check_histories(fused, parts)
  end
end

describe("FP8_FUSE", function()
  it("is 0 where layers are to be apart", function()
    local code = [[
      local fp8 = require "fp8"
      local recipe = {recipe = "global_native"}
      local network = fp8.nn.Sequential(fp8.Linear(16, 32, recipe), fp8.nn.ReLU(), fp8.Linear(32, 16, recipe))
      local names = {}
      for i, row in ipairs(fp8.memory_report(network(fp8.randn(4, 16)))) do names[i] = row.operation end
      table.sort(names)
      print(table.concat(names, ", "))
    ]]
    for environment, expected in pairs {["FP8_FUSE=0"] = "linear, relu\n", ["FP8_FUSE=1"] = "linear pair\n"} do
      local ended, text = support.run_lua(code, environment)
      assert.is_true(ended, text)
      assert.equal(expected, text)
    end
  end)
end)

support.each_device(function(device)
  describe("two linear layers and an activation function", function()
    before_each(function() fp8.manual_seed(5) end)

    for _, recipe in ipairs(recipes) do
      for name, shape in support.sorted_pairs(shapes) do
        it(("give the same as one after the other: %s, %s"):format(recipe, name), function()
          local options = {dtype = "bf16", first = recipe, second = recipe, steps = recipe == "delayed" and 3 or 1}
          local fused, parts = make(shape, options, device)
          check(fused, parts, shape, options, device)
        end)
      end
    end

    it("do so for all activation functions and dtypes", function()
      for name in pairs(activations) do
        for _, dtype in ipairs {"bf16", "f16", "f32"} do
          for _, recipe in ipairs {"global_native", "delayed"} do
            local options = {dtype = dtype, first = recipe, second = recipe, activation = name}
            local fused, parts = make(shapes.large, options, device)
            check(fused, parts, shapes.large, options, device)
          end
        end
      end
    end)

    it("call a module whose forward is a script's own, and refuse what it refuses", function()
      local options = {dtype = "bf16", first = "global_native", second = "global_native"}
      local x = fp8.randn(32, 16, {dtype = "bf16", device = device})
      for i = 1, 3 do
        local network, called = make(shapes.small, options, device), 0
        local forward = network[i].forward
        network[i].forward = function(...)
          called = called + 1
          return forward(...)
        end
        network(x)
        assert.equal(1, called)
      end
      local network = make(shapes.small, options, device)
      network[2].approximate = "tangent"
      support.fails("approximate must be", network, x)
    end)

    it("do so where only one has a recipe", function()
      for _, recipe in ipairs {"global_native", "delayed"} do
        for _, options in ipairs {{first = recipe}, {second = recipe}, {first = recipe, second = "mixed"}} do
          options.dtype = "bf16"
          local fused, parts = make(shapes.large, options, device)
          check(fused, parts, shapes.large, options, device)
        end
      end
    end)

    it("do so whatever of them is trained", function()
      for mask = 0, 31 do
        local options = {dtype = "bf16", first = "delayed", second = "delayed", input = mask % 2 == 1}
        local fused, parts = make(shapes.large, options, device)
        local bit = 2
        for _, pair in ipairs {{fused[1], parts.first}, {fused[3], parts.second}} do
          for _, name in ipairs {"weight", "bias"} do
            local flag = math.floor(mask / bit) % 2 == 1
            pair[1][name]:requires_grad_(flag)
            pair[2][name]:requires_grad_(flag)
            bit = bit * 2
          end
        end
        if mask > 0 then check(fused, parts, shapes.large, options, device) end
      end
    end)

    it("do so without gradients, and in evaluation", function()
      local options = {dtype = "bf16", first = "delayed", second = "delayed"}
      local fused, parts = make(shapes.large, options, device)
      check(fused, parts, shapes.large, options, device)
      local x = fp8.randn({1088, 64}, {device = device}):to "bf16"
      fp8.no_grad(function() same_bytes(separately(parts, x), fused(x)) end)
      fused:eval()
      parts.first:eval()
      parts.second:eval()
      same_bytes(separately(parts, x), fused(x))
      check_histories(fused, parts)
    end)

    it("keep a graph that is retained", function()
      local options = {dtype = "bf16", first = "global_native", second = "global_native"}
      local fused = make(shapes.large, options, device)
      local x = fp8.randn({1088, 64}, {device = device}):to("bf16"):requires_grad_()
      local y = fused(x)
      local grad = fp8.randn({1088, 48}, {device = device}):to "bf16"
      y:backward(grad, {retain_graph = true})
      local first = x.grad:clone()
      x.grad = nil
      y:backward(grad)
      same_bytes(first, x.grad)
    end)

    it("refuse a backward pass after a change of what it needs", function()
      local options = {dtype = "bf16", second = "global_native"}
      local fused = make(shapes.large, options, device)
      local x = fp8.randn({1088, 64}, {device = device}):to("bf16"):requires_grad_()
      local y = fused(x)
      fp8.no_grad(function() fused[1].weight:mul_(2) end)
      assert.has_error(function() y:sum():backward() end, "backward: a tensor of shape (1024, 64) that linear pair " ..
        "needs for its derivative was changed in place after it")
    end)

    it("are NaN where a value between them is not finite", function()
      for _, recipe in ipairs {"global_native", "delayed"} do
        local options = {dtype = "bf16", first = false or nil, second = recipe}
        local fused, parts = make(shapes.large, options, device)
        local x = fp8.randn({1088, 64}, {device = device}):to "bf16"
        if recipe == "delayed" then check(fused, parts, shapes.large, options, device) end
        x:narrow(1, 700, 1):narrow(2, 3, 1):fill_(math.huge)
        local y = fused(x)
        assert.are.equal(1, y:isnan():min():item())
        assert.are.equal(1, separately(parts, x):isnan():min():item())
        check_histories(fused, parts)
      end
    end)

    it("are found in an MLP, and their layers' errors are the same", function()
      local mlp = fp8.nn.MLP(64, 1024, {dtype = "bf16", device = device})
      fp8.convert(mlp, "delayed")
      local x = fp8.randn({2, 544, 64}, {device = device}):to "bf16"
      assert.are.same({2, 544, 64}, mlp(x).shape)
      local ok, message = pcall(mlp, fp8.randn({3, 5}, {device = device}))
      assert.is_false(ok)
      assert.is_truthy(message:find("linear: the input is f32, the weight bf16: write x:to", 1, true))
    end)

    if device ~= "cpu" then
      it("are the same in a graph", function()
        for _, recipe in ipairs {"global_native", "delayed"} do
          local options = {dtype = "bf16", first = recipe, second = recipe}
          local fused, parts = make(shapes.large, options, device)
          local x = fp8.randn({1088, 64}, {device = device}):to("bf16")
          local step = fp8.cuda.graph(function()
            fused:zero_grad()
            local y = fused(x)
            y:sum():backward()
            return y
          end, device)
          separately(parts, x):sum():backward()
          for factor = 1, 3 do
            x:copy_((fp8.randn({1088, 64}, {device = device}) * factor):to "bf16")
            local y = step()
            parts.first:zero_grad()
            parts.second:zero_grad()
            local expected = separately(parts, x)
            expected:sum():backward()
            same_bytes(expected, y)
            same_bytes(parts.first.weight.grad, fused[1].weight.grad)
            same_bytes(parts.second.weight.grad, fused[3].weight.grad)
          end
        end
      end)
    end
  end)
end)

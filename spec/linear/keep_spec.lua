-- What a layer keeps of its input between the passes (recipes' field `keep`): dW is that of the kept values.
local fp8 = require "fp8"
local planning = require "fp8.linear.plan"
local reference = require "spec.support.reference"
local support = require "spec.support"

local fails = support.fails

local formats = {
  {format = "e4m3", scale = {1, 32}, scale_rounding = "mx"}, {format = fp8.create_map(true, 4, 3, 8), scale = "block"},
  {format = "e2m1", scale = {1, 16}, scale_rounding = "e4m3", second_scale = "tensor"},
  {format = "int8", scale = "row"},
}

support.each_device(function(device)
  describe("A layer that keeps its input in codes", function()
    before_each(function() fp8.manual_seed(21) end)

    -- y and all gradients of a layer with a recipe.
    local function run(recipe, layer, x, dy)
      fp8.convert(layer, recipe)
      layer:zero_grad()
      local input = x:detach():clone():requires_grad_()
      fp8.manual_seed(22)
      local y = layer(input)
      y:backward(dy)
      return {y = y:detach(), input = input.grad, weight = layer.weight.grad, bias = layer.bias.grad}
    end

    for _, dtype in ipairs {"f32", "f16", "bf16"} do
      it("has the weight gradient of the values kept, and else what it had: " .. dtype, function()
        local sizes = {{7, 100, 33}, {32, 64, 48}, {0, 16, 16}}
        for _, name in ipairs {"mixed", "global", "global_native", "mx", "rowwise", "int8_switchback"} do
          for i, keep in ipairs(formats) do
            local rows, inputs, outputs = unpack(sizes[i % 3 + 1])
            local layer = fp8.Linear(inputs, outputs, {device = device, dtype = dtype})
            local x, dy = fp8.randn(rows, inputs, {device = device}):to(dtype),
              fp8.randn(rows, outputs, {device = device}):to(dtype)
            local found = run(fp8.recipe(name, {keep = keep}), layer, x, dy)
            local plain = run(name, layer, x, dy)
            for _, part in ipairs {"y", "input", "bias"} do support.same_bytes(found[part], plain[part]) end
            local codes, state = fp8.quantize_blockwise(x, keep.format, planning.blocks_of(keep.scale, inputs),
              {scale_rounding = keep.scale_rounding, second_scale = keep.second_scale})
            local of_values = run(name, layer, fp8.dequantize_blockwise(codes, state), dy)
            support.close(found.weight, of_values.weight, dtype == "f32" and 1e-6 or 4e-3)
          end
        end
      end)
    end

    it("quantizes to the reference's values", function()
      local recipe = fp8.recipe("mixed", {keep = formats[1]})
      local layer = fp8.Linear(40, 1, {device = device, bias = false, recipe = recipe})
      local x = fp8.randn(1, 40, {device = device})
      layer(x):backward(fp8.ones(1, 1, {device = device}))
      local expected = reference.fake_quantize(support.flat(x), "e4m3", {1, 32}, {1, 40}, "f32", "mx")
      assert.same(expected, support.flat(layer.weight.grad))
    end)

    it("leaves no need for the input itself, which may change and takes no memory", function()
      local x = fp8.randn(512, 1024, {device = device})
      local function after_forward(recipe)
        local layer = fp8.Linear(1024, 8, {device = device, recipe = recipe})
        collectgarbage()
        collectgarbage()
        local before = support.in_use(device)
        local y = layer(x:mul(1)) -- an input that nothing else has
        collectgarbage()
        collectgarbage()
        local kept = support.in_use(device) - before
        y:sum():backward()
        return kept
      end
      local plain = after_forward "mixed"
      local kept = after_forward(fp8.recipe("mixed", {keep = {format = "e4m3", scale = "row"}}))
      assert.is_true(plain > 512 * 1024 * 4)
      assert.is_true(kept < 512 * 1024 * 1.1, kept)
      local layer = fp8.Linear(1024, 8, {device = device, recipe = fp8.recipe("mixed", {keep = formats[1]})})
      local other = fp8.Linear(1024, 8, {device = device}):load_state_dict(layer:state_dict())
      fp8.convert(other, layer.recipe)
      layer(x):sum():backward()
      local copy = x:clone()
      local y = other(copy)
      copy:zero_()
      y:sum():backward()
      support.same_bytes(layer.weight.grad, other.weight.grad)
    end)

    it("does so in MLPs, recomputed blocks and losses of chunks, too", function()
      local x = fp8.randn(6, 16, {device = device})
      local recipe = fp8.recipe("global_native", {keep = formats[1]})
      local mlp = fp8.nn.MLP(16, 32, {device = device})
      fp8.convert(mlp, recipe)
      mlp(x):sum():backward()
      local h = mlp.fc1(x)
      local pair = {mlp.fc1.weight.grad, mlp.fc2.weight.grad}
      mlp:zero_grad()
      mlp.fc2(h:gelu()):sum():backward()
      support.same_bytes(mlp.fc1.weight.grad, pair[1])
      support.same_bytes(mlp.fc2.weight.grad, pair[2])
      mlp:zero_grad()
      fp8.recompute(mlp, x):sum():backward()
      support.same_bytes(mlp.fc2.weight.grad, pair[2])

      local head, targets = fp8.Linear(16, 5, {device = device, recipe = fp8.recipe("mixed", {keep = formats[1]})}),
        fp8.randint(0, 5, {6}, {dtype = "i64", device = device})
      fp8.cross_entropy(head(x), targets):backward()
      local expected = head.weight.grad
      head:zero_grad()
      head:cross_entropy(x, targets, {rows = 4}):backward()
      support.close(head.weight.grad, expected, 1e-5)
    end)

    it("keeps what a script's function makes of the input, however large: it is asked once", function()
      local names = {}
      local function noisy(x, name)
        names[#names + 1] = name
        return x + fp8.rand(x.shape, {device = device})
      end
      local recipe = fp8.recipe("global", {input = {quantize = noisy}, weight = "full", grad_output = "full"})
      local layer = fp8.Linear(1100, 1, {device = device, bias = false, recipe = recipe})
      local x = fp8.zeros(1000, 1100, {device = device})
      local y = layer(x)
      y:sum():backward()
      assert.same({"input"}, names)
      support.close((layer.weight.grad * layer.weight):sum():detach(), y:sum():detach(), 1e-5) -- of the same values
    end)

    it("is refused where it means nothing", function()
      local function refuses(text, recipe, keep)
        fails("recipe.keep" .. text, fp8.recipe, recipe, {keep = keep})
      end
      refuses(" must be a table {format =, scale =}, got \"full\"", "mixed", "full")
      refuses(" must be a table {format =, scale =}, got a function", "mixed", {quantize = function(y) return y end})
      refuses(".format must be a map", "mixed", {scale = "row"})
      refuses(".hadamard has no meaning between the passes", "mixed", {format = "e4m3", scale = "row", hadamard = 16})
      refuses(".history has no meaning between the passes", "mixed", {format = "e4m3", scale = "tensor", history = 2})
      refuses(" has no meaning where the input of weight_grad has a history", "delayed", formats[1])
      local layer = fp8.Linear(4, 4, {device = device, recipe = fp8.recipe("mixed", {keep = formats[1]})})
      assert.is_truthy(tostring(layer):find("keep: e4m3 by 1 x 32 (mx)", 1, true))
    end)
  end)
end)

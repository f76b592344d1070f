-- What goes on between an operand and its codes, and back: operands made from the forward pass's values, masks of what
-- was cut off, transforms across, and smoothed columns; against the slow reference, and by what they promise.
local fp8 = require "fp8"
local check_linear = require "spec.support.linear_check"
local recipe_rules = require "spec.support.recipe_rules"
local support = require "spec.support"

local fails = support.fails
local recipe_of, rules_of, to_nearest = recipe_rules.recipe_of, recipe_rules.rules_of, recipe_rules.to_nearest

local new_recipes = {"nvfp4_four_over_six", "blocks_requantized", "quartet", "luq", "halo", "halo_int8"}

--- y, dx and dW of a layer for the same x and dy.
local function run(layer, x, dy)
  local leaf = x:detach():clone():requires_grad_()
  layer:zero_grad()
  local y = layer(leaf)
  y:backward(dy)
  return y:detach(), leaf.grad, layer.weight.grad
end

support.each_device(function(device)
  local function layer_of(inputs, outputs, recipe, dtype)
    return fp8.Linear(inputs, outputs, {device = device, dtype = dtype, recipe = recipe, bias = false})
  end

  for _, name in ipairs(new_recipes) do
    it("computes what it says at sizes that no block divides, " .. name .. " on " .. device, function()
      for _, sizes in ipairs {{7, 100, 333}, {100, 7, 100}, {333, 33, 7}} do
        for _, dtype in ipairs {"f32", "bf16"} do
          local layer = fp8.Linear(sizes[2], sizes[3],
            {dtype = dtype, device = device, recipe = to_nearest(fp8.recipes[name])})
          check_linear(layer, rules_of(layer.recipe),
            {device = device, dtype = dtype, shape = {sizes[1]}, inputs = sizes[2], outputs = sizes[3]})
        end
      end
    end)
  end

  it("may be in any recipe on " .. device, function()
    local random = support.random(5)
    local function pick(list) return list[random(#list)] end
    local function operand(more)
      local of = {}
      for field, value in pairs(more) do of[field] = value or nil end
      if random(3) == 1 then of.range = {root_mean_square = 2, mean_magnitude = 0.5} end
      if random(3) == 1 then of.candidates = {1, 0.75, 0.5} end
      local scale = pick {"tensor", "row", "column", 7, {1, 16}, {16, 1}, {3, 5}}
      return {pick {"e4m3", "e2m1", "int4", "nf4"}, scale, pick {"none", "power_of_two", "mx"}, of}
    end
    for _ = 1, 40 do
      local forward = {hadamard = pick {16, false}, signs = nil}
      if forward.hadamard and random(2) == 1 then
        forward.signs = {}
        for i = 1, 16 do forward.signs[i] = random(2) * 2 - 3 end
      end
      local function of_forward()
        local of = {hadamard = forward.hadamard, signs = forward.signs, mask = pick {true, false}}
        if not forward.hadamard then of.smooth = pick {"row", "column", false} end
        return operand(of)
      end
      local backward = pick {32, false}
      local function of_backward(of)
        of.hadamard = backward
        if not backward and not of.across then of.smooth = pick {"row", "column", false} end
        return operand(of)
      end
      local rules = {input = of_forward(), weight = of_forward(), grad_output = operand {}}
      rules.input_grad = {
        grad_output = of_backward {across = pick {16, false}},
        weight = of_backward {from = pick {"forward", false}, across = pick {16, false}},
      }
      rules.weight_grad = pick {"full", {
        grad_output = of_backward {across = pick {16, false}},
        input = of_backward {from = pick {"forward", false}, across = pick {16, false}},
      }}
      local layer = fp8.Linear(48, 33, {device = device, recipe = recipe_of(rules)})
      local setup = {device = device, dtype = "f32", shape = {random(60)}, inputs = 48, outputs = 33}
      check_linear(layer, rules, setup)
      layer:zero_grad()
      check_linear(layer, rules, setup) -- with the weight as it was quantized before
    end
  end)

  describe("A mask on " .. device, function()
    local function recipe(mask)
      local function operand(of_mask)
        return {format = "int4", scale = "tensor", constant_scale = 1, mask = of_mask or nil}
      end
      return {input = operand(mask), weight = operand(mask), grad_output = "full", weight_grad = "quantized"}
    end

    it("leaves no gradient where values were cut off, and all others", function()
      local x = fp8.tensor({{3, 7, 7.1, -8}, {0, -7, -7.5, 100}}, {device = device})
      local dy = fp8.randn(2, 5, {device = device})
      local masked, plain = layer_of(4, 5, recipe(true)), layer_of(4, 5, recipe(false))
      local weight = fp8.randn(5, 4, {device = device}) * 6
      masked:load_state_dict {weight = weight}
      plain:load_state_dict {weight = weight}
      local y, dx, dw = run(masked, x, dy)
      local plain_y, plain_dx, plain_dw = run(plain, x, dy)
      support.close(y, plain_y, 1e-6)
      support.close(dx, plain_dx * fp8.tensor({{1, 1, 0, 0}, {1, 1, 0, 0}}, {device = device}), 1e-6)
      support.equal(dx:eq(0):sum(2), fp8.tensor({2, 2}, {dtype = "i64"}))
      support.close(dw, plain_dw * weight:abs():le(7), 1e-6)
      assert.is_true(weight:abs():gt(7):any():item() == 1)
      -- Without a gradient of x, or of W.
      masked:zero_grad()
      masked(x):backward(dy)
      support.close(masked.weight.grad, dw, 1e-6)
      masked.weight:requires_grad_(false)
      local leaf = x:clone():requires_grad_()
      masked(leaf):backward(dy)
      support.close(leaf.grad, dx, 1e-6)
    end)

    it("is that of each chunk in the loss of logits, too", function()
      for _, name in ipairs {"masked", "quartet", "halo"} do
        local of = name == "masked" and recipe(true) or to_nearest(fp8.recipes[name])
        local layer = layer_of(32, 24, of)
        local x = (fp8.randn(40, 32, {device = device}) * 3):requires_grad_()
        local targets = fp8.randint(0, 24, {40}, {device = device})
        layer:zero_grad()
        layer:cross_entropy(x, targets, {rows = 40}):backward()
        local dx, dw = x.grad, layer.weight.grad
        x.grad = nil
        layer:zero_grad()
        fp8.cross_entropy(layer(x), targets):backward()
        assert.is_true(support.error(dx, x.grad) < 1e-5, name)
        assert.is_true(support.error(dw, layer.weight.grad) < 1e-5, name)
        if name == "masked" then -- whose x has no scale of a chunk
          x.grad = nil
          layer:zero_grad()
          layer:cross_entropy(x, targets, {rows = 16}):backward()
          assert.is_true(support.error(x.grad, dx) < 1e-5)
          assert.is_true(support.error(layer.weight.grad, dw) < 1e-5)
        end
      end
    end)
  end)

  it("an operand made from the forward pass's values has their errors, not those of x, on " .. device, function()
    local function recipe(from)
      local coarse = {format = "e2m1", scale = "row"}
      return {
        input = coarse, weight = coarse, grad_output = "full",
        input_grad = {weight = {format = "e4m3", scale = "tensor", from = from}},
        weight_grad = {input = {format = "e4m3", scale = "tensor", from = from}},
      }
    end
    local x, dy = fp8.randn(48, 64, {device = device}), fp8.randn(48, 32, {device = device})
    local plain, own, requantized = layer_of(64, 32), layer_of(64, 32, recipe()), layer_of(64, 32, recipe "forward")
    own:load_state_dict(plain:state_dict())
    requantized:load_state_dict(plain:state_dict())
    local _, dx, dw = run(plain, x, dy)
    local own_y, own_dx, own_dw = run(own, x, dy)
    local y, new_dx, new_dw = run(requantized, x, dy)
    support.close(y, own_y, 1e-6) -- a GPU may compute equal products by different algorithms
    assert.is_true(support.error(own_dx, dx) < 0.04 and support.error(own_dw, dw) < 0.04)
    assert.is_true(support.error(new_dx, dx) > 0.06 and support.error(new_dw, dw) > 0.06)
    -- Exact where x and W are codes already, times a power of two.
    local codes = fp8.dequantize_blockwise(fp8.quantize_blockwise(x, "e2m1", "row", {scale_rounding = "mx"}))
    local exact = recipe "forward"
    exact.input = {format = "e2m1", scale = "row", scale_rounding = "mx"}
    exact.weight_grad.input.scale_rounding = "power_of_two"
    local third = layer_of(64, 32, exact)
    local _, _, third_dw = run(third, codes, dy)
    assert.is_true(support.error(third_dw, dy:t():matmul(codes)) < 1e-6)
  end)

  -- What stochastic rounding makes of gradients is right on average: within 4 standard errors, taken over all elements.
  local function on_average(layer, x, dy, want_dx, want_dw)
    local count = 400
    local sums, squares = {0, 0}, {0, 0}
    for _ = 1, count do
      local _, dx, dw = run(layer, x, dy)
      for i, grad in ipairs {dx, dw} do
        sums[i], squares[i] = grad + sums[i], grad ^ 2 + squares[i]
      end
    end
    for i, want in ipairs {want_dx, want_dw} do
      local mean = sums[i] / count
      local variance = (squares[i] / count - mean ^ 2):clamp(0) / count
      local distance, expected = ((mean - want) ^ 2):sum():item(), variance:sum():item()
      assert.is_true(expected > 0)
      -- A sum of squares of about as many normal numbers as there are elements.
      local spread = 4 * math.sqrt(2 * (variance ^ 2):sum():item())
      assert.is_true(distance < expected + 3 * spread + 1e-9 * want:pow(2):sum():item(),
        ("%d: %g is more than %g and %g"):format(i, distance, expected, spread))
    end
  end

  it("the gradients of quartet are those of its forward values, masked, on average, on " .. device, function()
    fp8.manual_seed(3)
    local layer = layer_of(64, 32, "quartet")
    local x, dy = fp8.randn(96, 64, {device = device}), fp8.randn(96, 32, {device = device})
    local options = {scale_rounding = "mx", range = {root_mean_square = 2.92247856 * 2 / 3}}
    local function quest(of)
      local transformed = fp8.hadamard(of, 32)
      local codes, state = fp8.quantize_blockwise(transformed, "e2m1", {1, 32}, options)
      local limit = (state.absmax * 6):view(-1, 1):expand(-1, 32):reshape(transformed.shape)
      return fp8.dequantize_blockwise(codes, state), transformed:abs():le(limit)
    end
    local qx, mask = quest(x)
    local qw, weight_mask = quest(layer.weight:detach())
    support.close(layer(x):detach(), qx:matmul(qw:t()), 1e-6)
    assert.is_true(mask:eq(0):any():item() == 1 and weight_mask:eq(0):any():item() == 1)
    on_average(layer, x, dy, fp8.hadamard(dy:matmul(qw) * mask, 32), fp8.hadamard(dy:t():matmul(qx) * weight_mask, 32))
  end)

  it("the gradients of luq are those of its forward values, on average, on " .. device, function()
    fp8.manual_seed(3)
    local layer = layer_of(48, 32, "luq")
    local x, dy = fp8.randn(40, 48, {device = device}), fp8.randn(40, 32, {device = device}) ^ 3
    local options = {range = {root_mean_square = 12.1, mean_magnitude = -12.2}}
    local qx = fp8.dequantize(fp8.quantize(x, "int4", options))
    local qw = fp8.dequantize(fp8.quantize(layer.weight:detach(), "int4", options))
    support.close(layer(x):detach(), qx:matmul(qw:t()), 1e-6)
    on_average(layer, x, dy, dy:matmul(qw), dy:t():matmul(qx))
  end)

  it("columns that are smoothed lose nothing to the outliers of others, on " .. device, function()
    local function recipe(smooth)
      local operand = {format = "int8", scale = "tensor", smooth = smooth}
      return {input = operand, weight = "full", grad_output = "full", weight_grad = "quantized"}
    end
    local x = fp8.randn(64, 32, {device = device})
    x:narrow(2, 5, 1):mul_(1000)
    x:narrow(2, 9, 1):zero_()
    local plain, rough, smooth = layer_of(32, 16), layer_of(32, 16, recipe()), layer_of(32, 16, recipe "column")
    plain.weight:detach():narrow(2, 5, 1):zero_() -- the outliers count for nothing in y
    rough:load_state_dict(plain:state_dict())
    smooth:load_state_dict(plain:state_dict())
    local dy = fp8.randn(64, 16, {device = device})
    local y, _, dw = run(plain, x, dy)
    local rough_y = run(rough, x, dy)
    local smooth_y, _, smooth_dw = run(smooth, x, dy)
    assert.is_true(support.error(rough_y, y) > 0.5)
    assert.is_true(support.error(smooth_y, y) < 0.02)
    assert.is_true(support.error(smooth_dw:narrow(2, 1, 4), dw:narrow(2, 1, 4)) < 0.02)
    -- Rows, as many columns.
    local turned = recipe "row"
    turned.input.scale = "column"
    local z = x:t():contiguous()
    local other = layer_of(64, 16, turned)
    assert.is_true(support.error(other(z):detach(), z:matmul(other.weight:detach():t())) < 0.02)
  end)

  it("GatedMLP smooths what down_proj takes, whatever its recipe, on " .. device, function()
    local mlp = fp8.nn.GatedMLP(16, 32, {smooth = true, device = device})
    local usual = fp8.nn.GatedMLP(16, 32, {device = device})
    usual:load_state_dict(mlp:state_dict())
    local x = fp8.randn(40, 16, {device = device})
    x:narrow(1, 1, 1):mul_(40)
    support.close(mlp(x):detach(), usual(x):detach(), 1e-6)
    local exact = usual(x):detach()
    local rough = fp8.convert(usual, "int8_switchback")(x):detach()
    fp8.convert(mlp, "int8_switchback")
    assert.equal("column", mlp.down_proj.recipe.input.smooth)
    assert.is_nil(mlp.up_proj.recipe.input.smooth)
    assert.is_nil(fp8.recipes.int8_switchback.input.smooth)
    assert.is_truthy(tostring(mlp):find("smooth column", 1, true))
    local smooth = mlp(x):detach()
    assert.is_false(fp8.equal(smooth, rough))
    assert.is_true(support.error(smooth, exact) < 0.1)
    fp8.convert(mlp, "nvfp4")
    assert.equal("column", mlp.down_proj.recipe.input.smooth)
    assert.is_nil(mlp.down_proj.recipe.weight_grad.input.smooth) -- has a transform
    assert.equal(0, select(2, fp8.convert(mlp, {default = "nvfp4"}, 2)))
    mlp(x):sum():backward()
    fp8.convert(mlp, false)
    support.close(mlp(x):detach(), exact, 1e-6)
    fails("GatedMLP: option smooth must be a boolean", fp8.nn.GatedMLP, 4, 4, {smooth = 1})
  end)

  it("analyze, watch and sensitivity take these recipes on " .. device, function()
    for _, name in ipairs(new_recipes) do
      local recipe = fp8.recipes[name]
      local operand = fp8.recipe(recipe).input
      operand.mask = nil
      local report = fp8.analyze(fp8.randn(64, 64, {device = device}), {formats = {operand}})
      assert.is_true(tostring(report):find("snr", 1, true) ~= nil)
      local model = fp8.nn.Sequential(fp8.Linear(64, 32, {device = device}), fp8.nn.ReLU(),
        fp8.Linear(32, 8, {device = device}))
      fp8.convert(model, name)
      local watcher = fp8.watch(model, {every = 1})
      local x = fp8.randn(40, 64, {device = device, requires_grad = true})
      model(x):sum():backward()
      watcher:step()
      local rows = watcher:rows()
      assert.is_true(#rows >= 6, name)
      for _, row in ipairs(rows) do assert.is_true(row.snr > 5, name) end
      assert.is_truthy(tostring(watcher):find("input", 1, true))
      watcher:close()
      fp8.convert(model, false)
      local function loss() return (model(x:detach()) ^ 2):mean() end
      local found = fp8.sensitivity(model, loss, name)
      assert.equal(2, #found)
      for _, row in ipairs(found) do assert.is_true(row.alone.gradient_error > 0, name) end
    end
  end)
end)

if fp8.cuda.is_available() then
  it("these recipes run in graphs, and give the same on both devices", function()
    for _, name in ipairs(new_recipes) do
      local recipe = to_nearest(fp8.recipes[name])
      local layer = fp8.Linear(96, 64, {recipe = recipe, bias = false})
      local x, dy = fp8.randn(48, 96), fp8.randn(48, 64)
      local y, dx, dw = run(layer, x, dy)
      layer:to "cuda"
      local on_x, on_dy = x:to "cuda", dy:to "cuda"
      local found = {run(layer, on_x, on_dy)}
      for i, expected in ipairs {y, dx, dw} do
        assert.is_true(support.error(found[i], expected) < 1e-5, name .. " " .. i)
      end
      local leaf = on_x:clone():requires_grad_()
      local graph = fp8.cuda.graph(function()
        layer:zero_grad()
        leaf.grad = nil
        layer(leaf):backward(on_dy)
      end)
      graph()
      graph()
      assert.is_true(support.error(leaf.grad, dx) < 1e-5, name)
      assert.is_true(support.error(layer.weight.grad, dw) < 1e-5, name)
    end
  end)
end

describe("A field for other operands", function()
  local e4m3 = {format = "e4m3", scale = "row"}
  local function refused(message, changes)
    local recipe = {input = e4m3, weight = e4m3, grad_output = e4m3, weight_grad = "quantized"}
    for field, value in pairs(changes) do recipe[field] = value end
    fails(message, fp8.Linear, 4, 4, {recipe = recipe})
  end
  local function with(field, value) return {format = "e4m3", scale = "tensor", [field] = value} end

  it("is refused with what it is for", function()
    refused('recipe.input.mask must be a boolean, got "clipped"', {input = with("mask", "clipped")})
    refused("recipe.grad_output.mask is for input and weight", {grad_output = with("mask", true)})
    refused("recipe.weight_grad.input.mask is for input and weight of the recipe",
      {weight_grad = {input = with("mask", true)}})
    refused('recipe.input.mask has no meaning beside forward = "full"',
      {input = with("mask", true), forward = "full"})
    refused('recipe.weight_grad.input.from must be "forward", got "codes"',
      {weight_grad = {input = with("from", "codes")}})
    refused("recipe.weight.from is for input_grad.weight and weight_grad.input", {weight = with("from", "forward")})
    refused("recipe.input_grad.grad_output.from is for", {input_grad = {grad_output = with("from", "forward")}})
    refused("recipe.weight_grad.input.from has no meaning where input is full",
      {weight_grad = {input = with("from", "forward")}, input = "full"})
    refused("recipe.input.across is for operands of input_grad and weight_grad", {input = with("across", 16)})
    refused("recipe.input_grad.weight.across must be 16, 32, 64 or 128, got 8",
      {input_grad = {weight = with("across", 8)}})
    refused('recipe.input.smooth must be "row" or "column", got "columns"', {input = with("smooth", "columns")})
    local both = with("smooth", "row")
    both.hadamard = 16
    refused("recipe.input.smooth has no meaning beside hadamard", {input = both})
    refused("recipe.input: unknown field smoth; did you mean smooth?", {input = with("smoth", "row")})
    fails("from is for operands of a recipe's products", fp8.analyze, fp8.ones(4, 4),
      {formats = {with("from", "forward")}})
  end)
end)

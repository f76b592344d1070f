-- Recipes with any fields together, against the slow reference; and the ways in which a layer is computed elsewhere,
-- against the layer.
local fp8 = require "fp8"
local check_linear = require "spec.support.linear_check"
local planning = require "fp8.linear.plan"
local random_rules = require "spec.support.random_rules"
local recipe_rules = require "spec.support.recipe_rules"
local support = require "spec.support"

local step = 1 / 64 -- what all inputs are multiples of: a tie for the reference is one for fp8

-- Rules, and the recipe for fp8, that a layer with these sizes takes.
local function any_recipe(random, inputs, outputs)
  while true do
    local rules = random_rules(random)
    local recipe = recipe_rules.recipe_of(rules)
    if pcall(planning.make, "", recipe, inputs, outputs) then return rules, recipe end
  end
end

local function leaf_of(x) return x:clone():requires_grad_() end

-- The gradients of x and W are the same with each of them alone.
local function check_alone(layer, x, dy, tolerance)
  local function run(for_x, for_weight)
    layer:zero_grad()
    layer.weight:requires_grad_(for_weight)
    local leaf = x:clone():requires_grad_(for_x)
    layer(leaf):backward(dy)
    return leaf.grad, layer.weight.grad
  end
  local dx, dw = run(true, true)
  dw = dw:clone()
  support.close((run(true, false)), dx, tolerance)
  support.close(select(2, run(false, true)), dw, tolerance)
  layer.weight:requires_grad_(true)
end

local function check_loss(layer, x, targets, tolerance)
  local function run(loss_of)
    local leaf = leaf_of(x)
    layer:zero_grad()
    loss_of(leaf):backward()
    return leaf.grad, layer.weight.grad:clone()
  end
  local dx, dw = run(function(leaf) return fp8.cross_entropy(layer(leaf), targets) end)
  local found_dx, found_dw = run(function(leaf) return layer:cross_entropy(leaf, targets, {rows = x.shape[1]}) end)
  support.close(found_dx, dx, tolerance)
  support.close(found_dw, dw, tolerance)
end

-- Two layers with an activation function between them, in one go and one after the other.
local function check_pair(first, second, x, dy)
  local function run(f)
    local leaf = leaf_of(x)
    first:zero_grad()
    second:zero_grad()
    local y = f(leaf)
    y:backward(dy)
    return {y:detach(), leaf.grad, first.weight.grad:clone(), second.weight.grad:clone()}
  end
  local expected = run(function(leaf) return second(first(leaf):relu()) end)
  for i, found in ipairs(run(fp8.nn.Sequential(first, fp8.nn.ReLU(), second))) do
    support.close(found, expected[i], 1e-6)
  end
end

support.each_device(function(device)
  it("any fields together give what the reference gives, however a layer is computed, on " .. device, function()
    local random = support.random(31)
    local function pick(list) return list[random(#list)] end
    local function random_tensor(...)
      return ((fp8.randn(...) / step):round() * step):to(device)
    end
    for _ = 1, 150 do
      local inputs, outputs, rows = pick {48, 33, 64}, pick {33, 48, 16, 128}, pick {random(60), 16, 32, 64, 1}
      local rules, recipe = any_recipe(random, inputs, outputs)
      local dtype = pick {"f32", "f32", "bf16"}
      local is_exact = dtype == "f32"
      local layer = fp8.Linear(inputs, outputs, {recipe = recipe, dtype = dtype, device = device, bias = false})
      layer:load_state_dict {weight = random_tensor(outputs, inputs):to(dtype)}
      local setup = {device = device, dtype = dtype, shape = {rows}, inputs = inputs, outputs = outputs, step = step}
      check_linear(layer, rules, setup)
      layer:zero_grad()
      check_linear(layer, rules, setup) -- with the weight as it was quantized before
      local x, dy = random_tensor(rows, inputs):to(dtype), random_tensor(rows, outputs):to(dtype)
      check_alone(layer, x, dy, is_exact and 1e-6 or 4e-3)
      if device == "cpu" then -- a GPU may choose another algorithm for the same product: its last bits are others
        check_loss(layer, x, fp8.randint(0, outputs, {rows}), is_exact and 1e-5 or 4e-3)
        local first = fp8.Linear(inputs, inputs, {recipe = recipe, dtype = dtype, bias = false})
        check_pair(first, layer, x, dy)
      end
    end
  end)
end)

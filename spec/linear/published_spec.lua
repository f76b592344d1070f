-- The recipes of fp8.recipes: none under a wrong name, and none that has been changed in place.
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails

describe("fp8.recipes", function()
  local recipes = fp8.recipes

  it("has no recipe under a misspelt name, not even nil", function()
    fails("there is no recipe 'mixd'", function() return recipes.mixd end)
    fails("there is no recipe 'Global'", function() return fp8.Linear(4, 4, {recipe = recipes.Global}) end)
    fails("there is no recipe 'tensor_wise'", fp8.Linear, 4, 4, {recipe = "tensor_wise"})
    assert.is_nil(recipes[1])
  end)

  it("is not left out by a variable that is nil", function()
    local net, missing = fp8.nn.Sequential(fp8.LinearGlobal(4, 4)), nil
    fails("convert: recipe must be a table, the name of one, or false for plain products, got nil", fp8.convert, net,
      missing)
    assert.is_truthy(tostring(net):find("recipe: global", 1, true))
    fp8.convert(net, false)
    assert.is_nil(net[1].recipe)
  end)

  --- Asserts that everything that takes a recipe refuses one that `change` changes in place, and has put it back then.
  local function check_refused(name, change)
    local layer = fp8.Linear(4, 4)
    local takers = {
      function() return fp8.Linear(4, 4, {recipe = name}) end,
      function() return fp8.Linear(4, 4, {recipe = recipes[name], rounding = "nearest"}) end,
      function() return fp8.convert(layer, name) end,
      function() return fp8.convert(layer, function() return recipes[name] end) end,
      function() return fp8.watch(layer, {recipe = name}) end,
      function() return fp8.watch(layer, {recipe = recipes[name]}) end,
    }
    if name == "mixed" then
      takers[7] = function() return fp8.LinearMixed(4, 4) end
      takers[8] = function() return fp8.matmul_mixed(fp8.ones(2, 4), fp8.ones(4, 2)) end
    end
    local before = fp8.text(recipes[name])
    for _, take in ipairs(takers) do
      change()
      fails("fp8.recipes." .. name, take)
      assert.equal(before, fp8.text(recipes[name]))
    end
    fp8.convert(layer, name)
    assert.is_truthy(tostring(layer):find("recipe: " .. name, 1, true))
  end

  it("refuses one that has been changed in place", function()
    check_refused("mixed", function() recipes.mixed.weight_grad = "quantized" end)
    check_refused("mx", function() recipes.mx.input_grad.weight.scale[1] = 64 end)
    check_refused("mx", function() recipes.mx.input = "full" end)
    check_refused("delayed", function() recipes.delayed.grad_output.history = nil end)
    check_refused("rowwise", function() recipes.rowwise.roundin = "stochastic" end)
  end)

  it("refuses one that has been replaced, and takes others beside them", function()
    local mixed, mine = recipes.mixed, {}
    recipes.mixed = recipes.mx
    fails("fp8.recipes.mixed has been replaced", fp8.LinearMixed, 4, 4)
    assert.equal(mixed, recipes.mixed)
    fp8.LinearMixed(4, 4)
    for field, value in pairs(recipes.blocks) do mine[field] = value end
    mine.rounding = "stochastic"
    recipes.mine = mine
    local text = tostring(fp8.Linear(4, 4, {recipe = "mine"}))
    recipes.mine = nil
    assert.is_truthy(text:find("recipe: mine", 1, true))
  end)

  it("refuses those one of whose maps has other values, which are put back", function()
    local ok, message = support.run_lua [[
      local fp8 = require "fp8"
      fp8.recipes.global.input.format:mul_(0.5)
      print(pcall(fp8.LinearGlobal, 4, 4))
      print(pcall(fp8.LinearGlobal, 4, 4), fp8.recipes.global.input.format:max():item())
    ]]
    assert.is_true(ok)
    assert.is_truthy(message:find("fp8.recipes.global has been changed", 1, true), message)
    assert.matches("true\t1\n?$", message)
  end)
end)

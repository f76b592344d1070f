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

  --- Asserts that everything that takes a recipe refuses one that `change` changes in place, until `restore` undoes it.
  local function check_refused(name, change, restore)
    local layer = fp8.Linear(4, 4)
    change()
    local ok, message = pcall(function()
      fails("fp8.recipes." .. name, fp8.Linear, 4, 4, {recipe = name})
      fails("fp8.recipes." .. name, fp8.Linear, 4, 4, {recipe = recipes[name], rounding = "nearest"})
      fails("fp8.recipes." .. name, fp8.convert, layer, name)
      fails("fp8.recipes." .. name, fp8.convert, layer, function() return recipes[name] end)
      fails("fp8.recipes." .. name, fp8.watch, layer, {recipe = name})
      fails("fp8.recipes." .. name, fp8.watch, layer, {recipe = recipes[name]})
      if name == "mixed" then
        fails("fp8.recipes.mixed", fp8.LinearMixed, 4, 4)
        fails("fp8.recipes.mixed", fp8.matmul_mixed, fp8.ones(2, 4), fp8.ones(4, 2))
      end
    end)
    restore()
    assert(ok, message)
    fp8.convert(layer, name)
    assert.is_truthy(tostring(layer):find("recipe: " .. name, 1, true))
  end

  it("refuses one that has been changed in place", function()
    check_refused("mixed", function() recipes.mixed.weight_grad = "quantized" end,
      function() recipes.mixed.weight_grad = "full" end)
    check_refused("mx", function() recipes.mx.input_grad.weight.scale[1] = 64 end,
      function() recipes.mx.input_grad.weight.scale[1] = 32 end)
    check_refused("delayed", function() recipes.delayed.grad_output.history = nil end,
      function() recipes.delayed.grad_output.history = 1024 end)
    check_refused("rowwise", function() recipes.rowwise.roundin = "stochastic" end,
      function() recipes.rowwise.roundin = nil end)
  end)

  it("refuses one that has been replaced, and takes others beside them", function()
    local mixed, mine = recipes.mixed, {}
    recipes.mixed = recipes.mx
    local made, message = pcall(fp8.LinearMixed, 4, 4)
    recipes.mixed = mixed
    assert.is_false(made)
    assert.is_truthy(message:find("fp8.recipes.mixed has been replaced", 1, true))
    for field, value in pairs(recipes.blocks) do mine[field] = value end
    mine.rounding = "stochastic"
    recipes.mine = mine
    local text = tostring(fp8.Linear(4, 4, {recipe = "mine"}))
    recipes.mine = nil
    assert.is_truthy(text:find("recipe: mine", 1, true))
  end)

  it("refuses all while the values of one of its maps are changed", function()
    local ok, message = support.run_lua [[
      local fp8 = require "fp8"
      fp8.recipes.global.input.format:mul_(0.5)
      print(pcall(fp8.LinearGlobal, 4, 4))
    ]]
    assert.is_true(ok)
    assert.is_truthy(message:find("fp8.recipes.global has been changed", 1, true), message)
  end)
end)

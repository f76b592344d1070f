-- The name that a misspelt one is nearest to, and the errors that say so.
local fp8 = require "fp8"
local nearest = require "fp8.nearest"
local support = require "spec.support"

local fails = support.fails

describe("The nearest name", function()
  local known = {weight = true, bias = true, softmax = true, randn = true, rand = true, Linear = true}

  it("is found across a letter too few, too many, wrong or swapped, and another case", function()
    for name, expected in pairs {
      weigh = "weight", weightt = "weight", waight = "weight", wieght = "weight", sofmax = "softmax", linear = "Linear",
      randm = "randn", bais = "bias",
    } do
      assert.equal(expected, nearest.name(name, nil, known), name)
    end
  end)

  it("is none that is far, nor one for what is no name", function()
    for _, name in ipairs {"heavy", "x", "", ("weight"):rep(10), 3, true} do
      assert.is_nil(nearest.name(name, nil, known))
    end
    assert.is_nil(nearest.name(nil, nil, known))
    assert.is_nil(nearest.name("wegth", 1, known))
    assert.equal("weight", nearest.name("wegth", 2, known))
  end)

  it("comes from any of several tables, and is the same in every run", function()
    assert.equal("car", nearest.name("cap", nil, {cat = true}, {[1] = true, car = true}))
    assert.equal("; did you mean car?", nearest.hint("carr", {bus = true}, {car = true}))
    assert.equal("", nearest.hint("plane", {bus = true}, {car = true}))
  end)
end)

describe("A misspelt field", function()
  it("of a library is an error", function()
    fails("fp8.randm: there is no such field; did you mean fp8.randn?", function() return fp8.randm end)
    fails("did you mean fp8.LinearMixed?", function() return fp8.LinaerMixed end)
    fails("did you mean fp8.nn.Linear?", function() return fp8.nn.Linaer end)
    fails("did you mean fp8.optim.AdamW?", function() return fp8.optim.AdmaW end)
    fails("did you mean fp8.data.batches?", function() return fp8.data.batchs end)
    fails("did you mean fp8.cuda.synchronize?", function() return fp8.cuda.synchronise end)
  end)

  it("is nil where a script may ask for it: short, with another number, after a _, far away", function()
    for _, name in ipairs {"new", "cats", "_version", "__call", "Quaternion", "log9p", "version2", 1} do
      assert.is_nil(fp8[name])
    end
    assert.is_nil(fp8.nn.Conv9d)
    assert.is_nil(fp8.nn[1])
  end)

  it("of a module stays nil, as those that are set later", function()
    local layer = fp8.Linear(2, 2, {bias = false})
    assert.is_nil(layer.bias)
    assert.is_nil(layer.wieght)
    assert.is_nil(layer.trainin)
  end)

  it("of a recipe or an option is named", function()
    fails("fp8.recipes: there is no recipe 'mxx'; did you mean mx?", function() return fp8.recipes.mxx end)
    fails("Linear: unknown option recipee; did you mean recipe?", fp8.Linear, 2, 2, {recipee = "mx"})
    fails("AdamW: unknown option weight_deacy; did you mean weight_decay?", fp8.optim.AdamW, fp8.Linear(2, 2),
      {weight_deacy = 0})
  end)
end)

support.each_device(function(device)
  it("a tensor's misspelt method is named", function()
    local x = fp8.ones(2, {device = device})
    fails("tensor: no field or method 'sofmax'; did you mean softmax?", function() return x:sofmax(1) end)
    fails("tensor: no field or method 'shap'; did you mean shape?", function() return x.shap end)
    local _, message = pcall(function() return x:quaternion() end)
    assert.is_nil(message:find("did you mean", 1, true))
  end)
end)

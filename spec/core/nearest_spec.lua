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

  it("of a module is one where two letters are swapped; else nil, as those that are set later", function()
    local layer = fp8.Linear(2, 2, {bias = false})
    assert.is_nil(layer.bias)
    assert.is_nil(layer.trainin)
    for _ = 1, 2 do
      fails("there is no field wieght; did you mean weight?", function() return layer.wieght end)
      fails("there is no field froward; did you mean forward?", function() return layer:froward() end)
    end
    local Net = fp8.nn.Module:extend "Net"
    function Net:init() self.norm12, self.emebdding = fp8.ones(1), 3 end
    local net = Net()
    assert.is_nil(net.norm21)
    fails("did you mean emebdding?", function() return net.embedding end)
    net.embedding = 4
    assert.equal(4, net.embedding)
    assert.is_nil(layer.embedding)
    for i = 1, 1200 do assert.is_nil(layer["letters" .. ("x"):rep(i % 7) .. i]) end
  end)

  it("of an optimizer is an error, read or written, and PyTorch's names are translated", function()
    local optimizer = fp8.optim.AdamW(fp8.Linear(2, 2))
    fails("AdamW.weight_deacy: there is no such field; did you mean AdamW.weight_decay?", function()
      optimizer.weight_deacy = 0
    end)
    fails("did you mean AdamW.epsilon?", function() return optimizer.epsilom end)
    fails("AdamW.eps: it is called epsilon here", function() optimizer.eps = 1 end)
    fails("AdamW: unknown option betas; it is called beta1 and beta2 here", fp8.optim.AdamW, fp8.Linear(2, 2),
      {betas = {0.9, 0.99}})
    assert.is_nil(optimizer.name_of_run)
    optimizer.steps_so_far = 3
    assert.equal(3, optimizer.steps_so_far)
    fails("SGD: unknown option eps", fp8.optim.SGD, fp8.Linear(2, 2), {eps = 1})
  end)

  it("of a recipe or an option is named", function()
    fails("fp8.recipes: there is no recipe 'mxx'; did you mean mx?", function() return fp8.recipes.mxx end)
    fails("Linear: unknown option recipee; did you mean recipe?", fp8.Linear, 2, 2, {recipee = "mx"})
    fails("AdamW: unknown option weight_deacy; did you mean weight_decay?", fp8.optim.AdamW, fp8.Linear(2, 2),
      {weight_deacy = 0})
  end)
end)

support.each_device(function(device)
  it("a dtype or a device that there is not is answered with those that there are", function()
    local x = fp8.ones(2, {device = device})
    for _, name in ipairs {"float64", "bool", "gpu", "f64"} do
      fails(("to: '%s' is no dtype (f32 f16 bf16 e4m3 e5m2 u8 i32 i64) and no device (cpu, cuda, cuda:N)"):format(name),
        x.to, x, name)
      fails(("to: '%s' is no dtype"):format(name), x.to, x, "cpu", name)
    end
    fails("dtype 'float32' is called f32 here", x.to, x, "float32")
    fails('cat: tensors 1 and 2 have dtypes f32 and bf16: write :to "f32" after tensor 2', fp8.cat, {x, x:to "bf16"})
    support.equal(fp8.tensor({5, -5}, {device = device}) % 3, fp8.tensor {2, 1})
    support.equal(7 % fp8.tensor({4}, {device = device}), fp8.tensor {3})
  end)

  it("a tensor's misspelt method is named", function()
    local x = fp8.ones(2, {device = device})
    fails("tensor: no field or method 'sofmax'; did you mean softmax?", function() return x:sofmax(1) end)
    fails("tensor: no field or method 'shap'; did you mean shape?", function() return x.shap end)
    local _, message = pcall(function() return x:quaternion() end)
    assert.is_nil(message:find("did you mean", 1, true))
  end)
end)

-- fp8.help: every public name has a comment, its own one.
local fp8 = require "fp8"
local help = require "fp8.help"
local names = require "fp8.help.names"
local support = require "spec.support"

-- What only classes of modules look at.
local internal = {["module:unsearched"] = true}

local function by_name(name)
  for _, entry in ipairs(names.all()) do
    if entry.name == name then return entry end
  end
end

local function file_of(name)
  local entry = assert(by_name(name), name)
  return entry.block and entry.block.file
end

describe("fp8.help", function()
  it("has a comment on every public name", function()
    local missing = {}
    for _, entry in ipairs(names.all()) do
      if not entry.block and not internal[entry.name] then table.insert(missing, entry.name) end
    end
    assert.equal("", table.concat(missing, " "))
    assert.is_true(#names.all() > 450)
  end)

  it("finds the comment that is about a name, and not one that only speaks of it", function()
    for name, file in support.sorted_pairs {
      ["fp8.softmax"] = "fp8/ops/softmax.lua", ["x:exp"] = "fp8/ops/elementwise/unary.lua",
      ["x:exp_"] = "fp8/ops/elementwise/in_place.lua", ["fp8.zeros"] = "fp8/help/functions_in_c.lua",
      ["fp8.zeros_like"] = "fp8/ops/create.lua", ["fp8.nn.Linear"] = "fp8/nn/linear.lua",
      ["fp8.LinearMixed"] = "fp8/nn/linear.lua", ["fp8.nn.ReLU"] = "fp8/nn/activations.lua",
      ["fp8.nn"] = "fp8/nn/init.lua", ["fp8.nn.Module"] = "fp8/nn/module.lua",
      ["fp8.optim.AdamW"] = "fp8/optim/adamw.lua", ["fp8.recipes"] = "fp8/linear/recipes.lua",
      ["fp8.recipes.delayed"] = "fp8/linear/recipes.lua", ["fp8.watch"] = "fp8/watch/init.lua",
      ["fp8.text"] = "fp8/printing/value.lua", ["fp8.set_print_options"] = "fp8/printing/options.lua",
      ["x:backward"] = "fp8/autograd/backward.lua", ["module:train"] = "fp8/nn/module.lua",
      ["fp8.nn.init.kaiming_normal_"] = "fp8/nn/initializers.lua", ["x.shape"] = "fp8/help/functions_in_c.lua",
      ["fp8.help"] = "fp8/help/init.lua", ["fp8.plot"] = "fp8/plot/init.lua", ["fp8.plot.map"] = "fp8/plot/init.lua",
      ["fp8.data"] = "fp8/data/init.lua",
    } do
      assert.equal(file, file_of(name), name)
    end
  end)

  it("takes names, values and topics, and finds what speaks of a word", function()
    local softmax = help.text "softmax"
    assert.equal(1, (softmax:find("fp8.softmax\n  exp(x) / Σ exp(x) along a dimension.\n", 1, true)))
    assert.is_truthy(softmax:find "fp8/ops/softmax.lua, line %d+")
    assert.is_truthy(help.text(fp8.zeros(1).softmax):find("along a dimension", 1, true))
    assert.is_truthy(help.text "fp8.optim.AdamW":find("weight_decay", 1, true))
    assert.is_truthy(help.text "recipe":find("scale_rounding", 1, true))
    assert.is_truthy(help.text "graphs":find "^graphs: a training step captured")
    assert.is_truthy(help.text "memory":find "\nfp8.memory\n.*\nmemory: when tensors are freed")
    assert.is_truthy(help.text():find("autograd  +gradients"))
    assert.is_truthy(help.text "switchback":find("fp8.recipes.mixed", 1, true))
    assert.is_truthy(help.text "nn":find "LayerNorm  +")
    assert.is_truthy(help.text "sofmtax":find "^nothing speaks of sofmtax; did you mean [sS]oftmax%?$")
    assert.is_truthy(help.text(3):find("no help", 1, true))
  end)

  it("has every topic", function()
    for name, topic in support.sorted_pairs(require "fp8.help.topics") do
      assert.is_true(#help.text(name) > 200, name)
      for _, see in ipairs(topic.see) do assert.is_truthy(by_name(see), see) end
    end
  end)

  it("knows the options of functions", function()
    assert.same({dtype = true, device = true, requires_grad = true}, help.options(fp8.randn))
    local options = help.options(fp8.cross_entropy)
    assert.is_true(options.reduction and options.label_smoothing)
    assert.is_true(help.options(fp8.optim.AdamW).weight_decay)
    assert.is_true(help.options(fp8.Linear).recipe)
    assert.same({}, help.options(print))
  end)
end)

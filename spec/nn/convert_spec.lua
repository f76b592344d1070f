-- fp8.convert: linear layers of a model get another recipe, and nothing else changes.
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails

local Net = fp8.nn.Module:extend "Net"
function Net:init(device)
  self.first = fp8.Linear(8, 16, {device = device})
  self.body = fp8.nn.Sequential(fp8.LinearMixed(16, 16, {device = device}), fp8.nn.ReLU(),
    fp8.nn.Sequential(fp8.LinearGlobal(16, 16, {device = device, bias = false})))
  self.head = fp8.Linear(16, 4, {device = device})
  self.again = self.head
end
function Net:forward(x) return self.head(self.body(self.first(x))) end

support.each_device(function(device)
  describe("convert", function()
    local net, x
    before_each(function()
      fp8.manual_seed(1)
      net, x = Net(device), fp8.randn(32, 8, {device = device})
    end)

    it("gives every linear layer the recipe, and keeps objects, names and parameters", function()
      local before, layers = {}, {net.first, net.body[1], net.body[3][1], net.head}
      for name, parameter in net:named_parameters() do before[name] = parameter end
      local optimizer = fp8.optim.SGD(net, {lr = 0.1})
      local model, count = fp8.convert(net, "rowwise")
      assert.equal(net, model)
      assert.equal(4, count)
      assert.same({net.first, net.body[1], net.body[3][1], net.head}, layers)
      for name, parameter in net:named_parameters() do
        assert.equal(before[name], parameter)
        before[name] = nil
      end
      assert.is_nil(next(before))
      local same = fp8.Linear(8, 16, {device = device, recipe = "rowwise"})
      same:load_state_dict(net.first:state_dict())
      support.equal(net.first(x), same(x))
      local old = net.first.weight:clone()
      net(x):sum():backward()
      optimizer:step()
      assert.is_true(support.error(net.first.weight:detach(), old:detach()) > 0)
    end)

    it("makes plain layers of quantized ones, and other kinds of either", function()
      fp8.convert(net, false)
      local plain = fp8.Linear(16, 16, {device = device}):load_state_dict(net.body[1]:state_dict())
      local input = fp8.randn(4, 16, {device = device})
      support.equal(net.body[1](input), plain(input))
      assert.is_truthy(tostring(net.body[1]):find("Linear(16, 16, bias = true)", 1, true))
      for name in support.sorted_pairs(fp8.recipes) do
        assert.equal(4, select(2, fp8.convert(net, name)))
        net(x):sum():backward()
      end
      assert.is_truthy(tostring(fp8.convert(net, "mx")):find("Linear(16, 4, bias = true, recipe: mx)", 1, true))
    end)

    it("asks the filter by name and layer", function()
      local seen = {}
      local _, count = fp8.convert(net, fp8.recipes.blocks, function(name, layer)
        seen[name] = layer
        return name ~= "head" and name ~= "again"
      end)
      assert.equal(3, count)
      assert.same({again = net.head, first = net.first, ["body.1"] = net.body[1], ["body.3.1"] = net.body[3][1]}, seen)
      assert.is_nil(net.head.recipe)
      assert.same({1, 128}, net.first.recipe.input.scale)
    end)

    it("takes a recipe for each layer from a function", function()
      local _, count = fp8.convert(net, function(name, layer)
        if name == "again" then return nil end
        return layer.in_features == 8 and "mixed" or fp8.recipes.global
      end)
      assert.equal(4, count)
      assert.equal("full", net.first.recipe.weight_grad)
      assert.equal("quantized", net.body[1].recipe.weight_grad)
      assert.is_nil(net.head.recipe)
    end)

    it("takes a model that is a layer, and layers of derived classes", function()
      local layer = fp8.Linear(8, 8, {device = device})
      local model, count = fp8.convert(layer, "global_native", function(name) return name == "" end)
      assert.equal(layer, model)
      assert.equal(1, count)
      local Twice = fp8.Linear:extend "Twice"
      function Twice:forward(input) return fp8.Linear.forward(self, input) * 2 end
      local twice = Twice(8, 8, {device = device})
      fp8.convert(twice, "mixed")
      assert.is_truthy(tostring(twice):find("Twice(8, 8, bias = true, recipe: mixed)", 1, true))
      local once = fp8.LinearMixed(8, 8, {device = device}):load_state_dict(twice:state_dict())
      support.equal(twice(x), once(x) * 2)
      local other, none = fp8.convert(fp8.nn.ReLU(), "mixed")
      assert.equal("ReLU()", tostring(other))
      assert.equal(0, none)
    end)

    it("begins histories anew and drops those that nothing needs", function()
      fp8.convert(net, "delayed")
      assert.same({1024}, net.first.input_history.shape)
      assert.equal(device, net.first.input_history.device:gsub(":0", ""))
      net(x):sum():backward()
      assert.is_true(net.first.input_history:max():item() > 0)
      fp8.convert(net, "delayed")
      assert.equal(0, net.first.input_history:max():item())
      fp8.convert(net, "mixed")
      assert.is_nil(net.first.input_history)
      assert.is_nil(net:state_dict()["first.input_history"])
    end)

    it("copies the recipe", function()
      local recipe = {}
      for field, value in pairs(fp8.recipes.mixed) do recipe[field] = value end
      fp8.convert(net, recipe)
      recipe.weight_grad = "quantized"
      assert.equal("full", net.first.recipe.weight_grad)
    end)

    it("leaves gradients of an earlier call as they were", function()
      fp8.convert(net, "mixed")
      local input, same = x:detach():requires_grad_(), x:detach():requires_grad_()
      local y = net(input)
      net(same):sum():backward()
      fp8.convert(net, "global")
      y:sum():backward()
      support.equal(input.grad, same.grad)
    end)

    it("refuses wrong arguments and changes nothing", function()
      fails("convert: model must be a module", fp8.convert, {}, "mixed")
      fails("convert: model must be a module", fp8.convert)
      fails("convert: there is no recipe 'mxied'", fp8.convert, net, "mxied")
      fails("convert: recipe must be a table or the name of one, got number", fp8.convert, net, 3)
      fails("convert: filter must be a function", fp8.convert, net, "mixed", "head")
      fails("convert: recipe.input must be", fp8.convert, net, {})
      fails("convert: recipe.weight.scale must be", fp8.convert, net, {
        input = fp8.recipes.mx.input, weight = {format = "e4m3"}, grad_output = fp8.recipes.mx.input,
      })
      local calls = 0
      fails("convert: there is no recipe 'other'", fp8.convert, net, function()
        calls = calls + 1
        return calls == 3 and "other" or "global"
      end)
      assert.is_nil(net.first.recipe)
      assert.equal("full", net.body[1].recipe.weight_grad)
    end)
  end)
end)

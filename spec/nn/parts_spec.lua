-- Modules that hold others, change a shape or compute one function, and the gated MLP.
local fp8 = require "fp8"
local support = require "spec.support"

local nn, fails = fp8.nn, support.fails

local function names_of(model)
  local names = {}
  for name in model:named_parameters() do table.insert(names, name) end
  return names
end

support.each_device(function(device)
  local on = {device = device}
  local function linear(bias) return fp8.Linear(4, 4, {device = device, bias = bias or false}) end

  describe("Activations", function()
    it("are those of the functions", function()
      local x = fp8.randn(3, 4, on)
      for class, name in support.sorted_pairs {
        SELU = "selu", ReLU6 = "relu6", Mish = "mish", Softsign = "softsign", LogSigmoid = "logsigmoid",
        Hardswish = "hardswish", Hardsigmoid = "hardsigmoid",
      } do
        support.equal(nn[class]()(x), x[name](x))
        fails(class .. ": no arguments", nn[class], 1)
      end
      for class, name in support.sorted_pairs {
        LeakyReLU = "leaky_relu", ELU = "elu", CELU = "celu", Softplus = "softplus",
      } do
        support.equal(nn[class]()(x), x[name](x))
        support.equal(nn[class](0.75)(x), x[name](x, 0.75))
        fails(class .. ": ", nn[class], "wide")
      end
      assert.equal("ELU(alpha = 2)", tostring(nn.ELU(2)))
    end)

    it("learn the slope of PReLU", function()
      local layer, x = nn.PReLU(4, 0.5):to(device), fp8.randn(3, 4, on)
      support.equal(layer(x), x:leaky_relu(0.5))
      layer(x):sum():backward()
      support.close(layer.weight.grad, x:clamp_max(0):sum(1))
      fails("PReLU: the number of weights must be a whole number of at least 1, got 0", nn.PReLU, 0)
    end)
  end)

  describe("ModuleList", function()
    it("holds modules in order", function()
      local list = nn.ModuleList {linear(), nn.ReLU()}
      assert.equal(list, list:append(linear()))
      assert.equal(3, #list)
      local seen = {}
      for i, part in ipairs(list) do seen[i] = part end
      assert.same({list[1], list[2], list[3]}, seen)
      assert.same({"1.weight", "3.weight"}, names_of(list))
      local many = nn.ModuleList()
      for i = 1, 11 do many:append(linear()) assert.equal(i, #many) end
      assert.equal("11.weight", names_of(many)[11])
      assert.is_truthy(tostring(many):find "9: Linear.*10: Linear.*11: Linear")
    end)

    it("is part of a module", function()
      local Net = nn.Module:extend "Net"
      function Net:init() self.layers = nn.ModuleList {linear(), linear()} end
      function Net:forward(x)
        for _, layer in ipairs(self.layers) do x = layer(x) end
        return x
      end
      local net = Net()
      assert.same({"layers.1.weight", "layers.2.weight"}, names_of(net))
      local x = fp8.randn(3, 4, on)
      support.close(net(x), net.layers[2](net.layers[1](x)))
      local other = Net()
      other:load_state_dict(net:state_dict())
      support.equal(other(x), net(x))
      assert.equal(2, select(2, fp8.convert(net, "mixed")))
      net:eval()
      assert.is_false(net.layers[2].training)
    end)

    it("says what is wrong", function()
      fails("ModuleList: part 2 must be a module, got number", nn.ModuleList, {linear(), 3})
      fails("ModuleList: a list of modules is needed, got a module", nn.ModuleList, linear())
      fails("ModuleList: a list of modules is needed, got number", nn.ModuleList, 3)
      fails("ModuleList: a list is expected", nn.ModuleList, {a = linear()})
      fails("ModuleList: part 1 must be a module, got nil", function() nn.ModuleList():append() end)
      fails("ModuleList: this module has no forward function", nn.ModuleList(), fp8.ones(4, on))
    end)
  end)

  describe("ModuleDict", function()
    it("holds modules by key", function()
      local dict = nn.ModuleDict {b = linear(), a = linear(), none = nn.Identity()}
      assert.same({"a.weight", "b.weight"}, names_of(dict))
      local keys = {}
      for key, part in dict:children() do
        table.insert(keys, key)
        assert.equal(dict[key], part)
      end
      assert.same({"a", "b", "none"}, keys)
      assert.same({}, names_of(nn.ModuleDict()))
    end)

    it("says what is wrong", function()
      fails("ModuleDict: 'train' can't be a key: every module has that field", nn.ModuleDict, {train = linear()})
      fails("ModuleDict: 'training' can't be a key", nn.ModuleDict, {training = linear()})
      fails("ModuleDict: a key can't be empty or have a dot, got 'a.b'", nn.ModuleDict, {["a.b"] = linear()})
      fails("ModuleDict: keys must be strings, got 1", nn.ModuleDict, {linear()})
      fails("ModuleDict: part a must be a module, got table", nn.ModuleDict, {a = {}})
      fails("ModuleDict: a table of modules is needed, got a module", nn.ModuleDict, linear())
    end)
  end)

  describe("Modules of one function", function()
    it("compute it", function()
      local x = fp8.randn(2, 3, 4, on)
      support.same_bytes(nn.Tanh()(x), x:tanh())
      support.same_bytes(nn.Sigmoid()(x), x:sigmoid())
      support.same_bytes(nn.Softmax(-1)(x), x:softmax(3))
      support.same_bytes(nn.LogSoftmax(2)(x), x:log_softmax(2))
      assert.equal(x, nn.Identity(1, "ignored")(x))
      assert.same({2, 12}, nn.Flatten()(x).shape)
      assert.same({6, 4}, nn.Flatten(1, 2)(x).shape)
      assert.same({2, 3, 4}, nn.Flatten(-1)(x).shape)
      local model = nn.Sequential(nn.Flatten(), fp8.Linear(12, 5, on), nn.LogSoftmax(2))
      fp8.nll_loss(model(x), fp8.randint(0, 5, {2}, on)):backward()
      assert.same({5, 12}, model[2].weight.grad.shape)
    end)

    it("tell what they are", function()
      assert.equal("Softmax(-1)", tostring(nn.Softmax(-1)))
      assert.equal("LogSoftmax(2)", tostring(nn.LogSoftmax(2)))
      assert.equal("Flatten(2, -1)", tostring(nn.Flatten()))
      assert.equal("Identity()", tostring(nn.Identity()))
    end)

    it("say what is wrong", function()
      fails("Softmax: the dimension must be a whole number, from 1 or from -1 at the end, got nil", nn.Softmax)
      fails("LogSoftmax: the dimension must be a whole number, from 1 or from -1 at the end, got 0", nn.LogSoftmax, 0)
      fails("Flatten: dimensions must be whole numbers, from 1 or from -1 at the end, got 1.5", nn.Flatten, 1.5)
      local x = fp8.ones(2, on)
      for _, module in ipairs {nn.Tanh(), nn.Sigmoid(), nn.Softmax(1), nn.Identity(), nn.Flatten(1)} do
        fails(module.class_name .. ": it takes one", module, x, x)
      end
    end)
  end)

  describe("GatedMLP", function()
    it("multiplies two projections, of which one has an activation", function()
      for activation, f in support.sorted_pairs {
        silu = fp8.silu, gelu = fp8.gelu, gelu_tanh = function(x) return x:gelu "tanh" end, relu = fp8.relu,
        sigmoid = fp8.sigmoid,
      } do
        for _, bias in ipairs {true, false} do
          local mlp = nn.GatedMLP(4, 6, {activation = activation, bias = bias, device = device})
          local x = fp8.randn(2, 3, 4, {device = device, requires_grad = true})
          local function product(layer, input)
            local y = input:matmul(layer.weight:t())
            return bias and y + layer.bias or y
          end
          local y = mlp(x)
          local expected = product(mlp.down_proj, f(product(mlp.gate_proj, x)) * product(mlp.up_proj, x))
          support.close(y, expected)
          local gradients = {}
          for i, result in ipairs {y, expected} do
            x.grad = nil
            mlp:zero_grad()
            result:square():sum():backward()
            gradients[i] = {x.grad}
            for _, parameter in mlp:named_parameters() do table.insert(gradients[i], parameter.grad) end
          end
          assert.equal(bias and 7 or 4, #gradients[1])
          for k, gradient in ipairs(gradients[1]) do support.close(gradient, gradients[2][k], 1e-4) end
        end
      end
    end)

    it("has linear layers that fp8.convert finds", function()
      local mlp = nn.GatedMLP(32, 64, {device = device, dtype = "bf16", dropout = 0.5})
      assert.same({"down_proj.weight", "gate_proj.weight", "up_proj.weight"}, names_of(mlp))
      assert.equal(3, select(2, fp8.convert(mlp, "mixed")))
      local y = mlp(fp8.randn(5, 32, {device = device, dtype = "bf16"}))
      assert.same({5, 32}, y.shape)
      assert.equal("bf16", y.dtype)
      local evaluated = mlp:eval()
      local x = fp8.randn(5, 32, {device = device, dtype = "bf16"})
      support.equal(evaluated(x), evaluated(x))
    end)

    it("says what is wrong", function()
      fails("GatedMLP: option activation must be silu, gelu, gelu_tanh, relu or sigmoid, got tanh", nn.GatedMLP, 4, 6,
        {activation = "tanh"})
      fails("GatedMLP: hidden must be a whole number", nn.GatedMLP, 4)
      fails("GatedMLP: unknown option gate", nn.GatedMLP, 4, 6, {gate = 1})
      fails("GatedMLP: option dropout must be", nn.GatedMLP, 4, 6, {dropout = 1})
    end)
  end)
end)

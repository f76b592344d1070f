-- Modules: parameters, state, conversion.
local fp8 = require "fp8"
local support = require "spec.support"

local nn, fails = fp8.nn, support.fails

local function names_of(module)
  local names = {}
  for name in module:named_parameters() do table.insert(names, name) end
  return names
end

support.each_device(function(device)
  local on = {device = device}

  local function network()
    return nn.Sequential(
      fp8.Linear(6, 5, on), nn.ReLU(), fp8.LinearMixed(5, 4, on), nn.GELU(), fp8.LinearGlobal(4, 3, on))
  end

  describe("A module", function()
    it("names its parameters in an order that is always the same", function()
      assert.same({"1.bias", "1.weight", "3.bias", "3.weight", "5.bias", "5.weight"}, names_of(network()))
      local many = {}
      for i = 1, 12 do many[i] = fp8.Linear(1, 1, false) end
      assert.equal("12.weight", names_of(nn.Sequential(many))[12])
    end)

    it("lists a shared parameter once", function()
      local layer = fp8.Linear(3, 3, on)
      assert.equal(2, #nn.Sequential(layer, layer):parameters())
      local other = fp8.Linear(3, 3, on)
      other.weight = layer.weight
      assert.equal(3, #nn.Sequential(layer, other):parameters())
    end)

    it("loads a shared parameter under any of its names", function()
      local net = nn.Sequential(fp8.Linear(3, 3, on), fp8.Linear(3, 3, on))
      net[2].weight = net[1].weight
      local function weight(value) return fp8.full({3, 3}, value, on) end
      local bias = fp8.zeros(3, on)
      local function loaded(first, second)
        net:load_state_dict {
          ["1.weight"] = first, ["2.weight"] = second, ["1.bias"] = bias, ["2.bias"] = bias,
        }
        return net[1].weight[1][1]:item()
      end
      assert.equal(5, loaded(weight(5)))
      assert.equal(6, loaded(nil, weight(6)))
      assert.equal(8, loaded(weight(7), weight(8)))
      fails("load_state_dict: the table lacks: 1.weight", loaded)
      fails("load_state_dict: 2.weight has shape (3, 3) in the module, (3) in the table", loaded, weight(9), bias)
      assert.equal(8, net[1].weight[1][1]:item())
    end)

    it("may be written by the user", function()
      local Net = nn.Module:extend "Net"
      function Net:init(width)
        self.hidden, self.output = fp8.Linear(4, width, on), fp8.Linear(width, 2, on)
        self.offset = fp8.zeros(2, on)
      end
      function Net:forward(x) return self.output(self.hidden(x):tanh()) + self.offset end
      local net = Net(8)
      assert.same({3, 2}, net(fp8.zeros(3, 4, on)).shape)
      assert.same({"hidden.bias", "hidden.weight", "output.bias", "output.weight"}, names_of(net))
      assert.is_truthy(net:state_dict().offset)
      assert.is_truthy(tostring(net):find("Net", 1, true))
      fails("no forward", nn.Module:extend("Empty")(), 1)
    end)

    it("switches training on and off in its parts", function()
      local net = network()
      assert.is_true(net.training)
      assert.equal(net, net:eval())
      assert.is_false(net.training or net[3].training)
      net:train()
      assert.is_true(net.training and net[3].training)
    end)

    it("is converted by to", function()
      local net = nn.Sequential(fp8.Linear(4, 3), fp8.LinearGlobal(3, 2))
      local before = net[1].weight:totable()
      assert.equal(net, net:to(device))
      assert.same(before, net[1].weight:totable())
      net:to "bf16"
      for _, parameter in ipairs(net:parameters()) do
        assert.equal("bf16", parameter.dtype)
        assert.is_true(parameter.requires_grad)
        assert.equal(fp8.zeros(1, on).device, parameter.device)
      end
      local y = net(fp8.zeros(2, 4, {device = device, dtype = "bf16"}))
      assert.equal("bf16", y.dtype)
      fails("to: ", function() net:to "f63" end)
    end)

    it("gives its state and takes it", function()
      local net, other = network(), network()
      local x = fp8.randn(2, 6, on)
      assert.is_not.same(net(x):totable(), other(x):totable())
      assert.equal(other, other:load_state_dict(net:state_dict()))
      assert.same(net(x):totable(), other(x):totable())
      local path = os.tmpname()
      fp8.save(path, net:state_dict())
      local third = network()
      third:load_state_dict(fp8.load(path))
      os.remove(path)
      assert.same(net(x):totable(), third(x):totable())
      for _, parameter in ipairs(third:parameters()) do assert.is_true(parameter.requires_grad) end
    end)

    it("refuses state that does not fit, and is unchanged then", function()
      local net = network()
      local before = net[1].weight:totable()
      local function refused(words, change)
        local state = {}
        for name, tensor in pairs(net:state_dict()) do state[name] = fp8.zeros(tensor.shape, on) end
        change(state)
        for _, word in ipairs(words) do fails(word, function() net:load_state_dict(state) end) end
        fails("load_state_dict: ", function() net:load_state_dict(state) end)
        assert.same(before, net[1].weight:totable())
      end
      refused({"the table lacks: 5.weight"}, function(state) state["5.weight"] = nil end)
      refused({"5.weight", "number"}, function(state) state["5.weight"] = 3 end)
      refused({"5.weight", "(3, 4)", "(4, 3)"}, function(state) state["5.weight"] = fp8.zeros(4, 3) end)
      refused({"5.weight", "(3, 4)", "(12)"}, function(state) state["5.weight"] = fp8.zeros(12) end)
      refused({"the module has no tensor: 6.wheel"}, function(state) state["6.wheel"] = fp8.zeros(1) end)
      refused({
        "load_state_dict: the table lacks: 1.bias, 5.weight; " ..
          "the module has no tensor: 5.wieght (did you mean 5.weight?), heads",
      }, function(state)
        state["5.weight"], state["1.bias"], state["5.wieght"], state.heads = nil, nil, state["5.weight"], fp8.zeros(1)
      end)
      refused({"x1, x10, x11, x12, x2, x3, x4, x5, x6, x7 and 2 more"}, function(state)
        for i = 1, 12 do state["x" .. i] = fp8.zeros(1) end
      end)
      fails("load_state_dict: ", function() net:load_state_dict() end)
      fails("load_state_dict: ", function() net:load_state_dict(fp8.zeros(3)) end)
    end)

    it("takes no codes for weights, nor floats for integers", function()
      local net = nn.Sequential(fp8.Linear(4, 3, on))
      net.count = fp8.zeros(3, {dtype = "i64", device = device})
      local before = net[1].weight:totable()
      local function refused(text, name, tensor)
        local state = {}
        for own, value in pairs(net:state_dict()) do state[own] = value:clone() end
        state[name] = tensor
        fails("load_state_dict: " .. name .. " is " .. text, net.load_state_dict, net, state)
        assert.same(before, net[1].weight:totable())
      end
      local weight = fp8.randn(3, 4, on)
      local codes = fp8.quantize(weight, fp8.create_map(true, 4, 3, 8))
      local wrong = {e4m3 = weight:to "e4m3", e5m2 = weight:to "e5m2", u8 = codes, i64 = weight:to "i64"}
      for dtype, tensor in pairs(wrong) do
        refused(("f32 in the module, %s in the table: if it has a scale multiply by that, else load its :to \"f32\"")
          :format(dtype), "1.weight", tensor)
      end
      refused("i64 in the module, f32 in the table", "count", fp8.ones(3, on))
      local state = net:state_dict()
      state["1.weight"], state.count = weight:to "bf16", fp8.tensor({1, 2, 3}, {dtype = "i64"})
      net:load_state_dict(state)
      assert.same(weight:to "bf16":totable(), net[1].weight:totable())
      assert.same({1, 2, 3}, net.count:totable())
    end)

    it("finds modules in plain tables of its fields", function()
      local Net = nn.Module:extend "Net"
      function Net:init()
        self.layers, self.sizes, self.head = {}, {3, 4, {deep = {5}}}, fp8.Linear(4, 2, on)
        for i = 1, 11 do self.layers[i] = fp8.LinearMixed(4, 4, {bias = false, device = device}) end
        self.layers.tail = {b = {fp8.nn.LayerNorm(4, on)}, a = fp8.nn.RMSNorm(4, on)}
        self.layers.itself, self.layers.tail.up, self.layers.tail.root = self.layers, self.layers, self
        self.groups = {{self.head.weight, self.layers[2].weight}}
      end
      function Net:forward(x)
        for _, layer in ipairs(self.layers) do x = layer(x) end
        return self.head(self.layers.tail.b[1](self.layers.tail.a(x)))
      end
      local net, other = Net(), Net()
      local names = {"head.bias", "head.weight"}
      for i = 1, 11 do names[2 + i] = ("layers.%d.weight"):format(i) end
      for _, name in ipairs {"a.weight", "b.1.bias", "b.1.weight"} do table.insert(names, "layers.tail." .. name) end
      assert.same(names, names_of(net))
      local x = fp8.randn(2, 4, on)
      assert.is_not.same(net(x):totable(), other(x):totable())
      other:load_state_dict(net:state_dict())
      assert.same(net(x):totable(), other(x):totable())
      local modules = {}
      for name in net:named_modules() do table.insert(modules, name) end
      assert.same({"", "head", "layers.1", "layers.2", "layers.3"}, {unpack(modules, 1, 5)})
      assert.same({"layers.tail.a", "layers.tail.b.1"}, {unpack(modules, 14)})
      net:eval()
      assert.is_false(net.layers[3].training or net.layers.tail.b[1].training)
      local _, converted = fp8.convert(net, "mx", function(name) return name:find "^layers" end)
      assert.equal(11, converted)
      assert.same(fp8.recipes.mx.input.scale, net.layers[7].recipe.input.scale)
      local watcher = fp8.watch(net)
      net(x):sum():backward()
      net:zero_grad()
      assert.is_nil(net.layers[11].weight.grad)
      watcher:close()
      local text = tostring(net)
      for _, part in ipairs {"layers.11: Linear(", "layers.tail.b.1: LayerNorm(4", "layers.tail.root: Net(…)"} do
        assert.is_truthy(text:find(part, 1, true), text)
      end
      net:to "bf16"
      assert.equal("bf16", net.layers[11].weight.dtype)
      assert.equal("bf16", net.layers.tail.b[1].bias.dtype)
      assert.equal(net.layers[2].weight, net.groups[1][2])
      assert.same(names, names_of(net))
    end)

    it("refuses parameters in plain tables, where they would be lost", function()
      local net = nn.Sequential(fp8.Linear(2, 2, on))
      net.scales = {fp8.ones(2, on), deep = {fp8.ones(2, on)}}
      assert.equal(2, #net:parameters())
      net.seen = {net[1](fp8.ones(1, 2, on)), net[1].weight}
      assert.equal(2, #net:parameters())
      net.scales.deep[1]:requires_grad_()
      for _, name in ipairs {"parameters", "state_dict", "named_parameters", "zero_grad", "eval"} do
        if name == "eval" then net:eval() else
          fails("Sequential: scales.deep.1 requires a gradient but is in a plain table", net[name], net)
        end
      end
      fails("scales.deep.1", net.to, net, "bf16")
      fails("scales.deep.1", net.load_state_dict, net, {})
      assert.equal("f32", net[1].weight.dtype)
    end)

    it("refuses names that are the same", function()
      local net = nn.Sequential(fp8.Linear(2, 2, on))
      net["1"] = fp8.Linear(2, 2, on)
      fails("Sequential: two tensors are called 1.bias", net.state_dict, net)
    end)

    it("refuses more arguments than the one that it takes", function()
      local x, mask = fp8.ones(2, 3, 4, on), fp8.zeros(3, 3, on)
      local modules = {
        fp8.Linear(4, 4, on), fp8.LinearMixed(4, 4, on), fp8.LinearGlobal(4, 4, on), nn.LayerNorm(4, on),
        nn.RMSNorm(4, on), nn.ReLU(), nn.GELU(), nn.SiLU(), nn.Dropout(0.5), nn.LayerScale(4, on), nn.MLP(4, 8, on),
        nn.Sequential(nn.ReLU()),
      }
      for _, module in ipairs(modules) do
        assert.same(x.shape, module(x).shape)
        assert.same(x.shape, module(x, nil).shape)
        fails(module.class_name .. ": it takes ", module, x, mask)
        fails("got a tensor as argument 2", module, x, mask)
        fails("got a number as argument 3", module, x, nil, 3)
        fails("got a boolean as argument 2", module.forward, module, x, true)
      end
      for _, module in ipairs {nn.MultiHeadAttention(4, 2, on), nn.TransformerBlock(4, 2, on), nn.GRU(4, 4, on)} do
        assert.same(x.shape, module(x, nil).shape)
        fails(module.class_name .. ": it takes ", module, x, nil, mask)
        fails("got a number as argument 3", module, x, nil, 3)
      end
      for _, module in ipairs {nn.MultiHeadAttention(4, 2, on), nn.TransformerBlock(4, 2, on)} do
        fails("options must be a table, got a tensor; a mask is option mask", module, x, mask)
      end
      local ids = fp8.zeros(3, {dtype = "i64", device = device})
      fails("Embedding: it takes a tensor of integers and nothing else", nn.Embedding(5, 4, on), ids, ids)
    end)
  end)
end)

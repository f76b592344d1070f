-- Modules: parameters, state, conversion; and how linear layers start.
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

  describe("Sequential", function()
    it("calls its parts one after the other", function()
      local net = network()
      local x = fp8.randn(7, 6, on)
      local expected = net[5](net[3](net[1](x):relu()):gelu())
      support.close(net(x), expected)
      support.close(net:forward(x), expected)
    end)

    it("takes a list, functions and nothing", function()
      local x = fp8.tensor({1, -2}, on)
      assert.same({2, 0}, nn.Sequential({nn.ReLU(), function(y) return y * 2 end})(x):totable())
      assert.same({1, -2}, nn.Sequential()(x):totable())
      fails("Sequential: part 2", nn.Sequential, nn.ReLU(), 3)
    end)

    it("drops nothing silently", function()
      fails("Sequential: part 2 must be a module or a function, got nil", nn.Sequential, nn.ReLU(), nil, nn.ReLU())
      fails("Sequential: part 2 must be a module or a function, got nil", nn.Sequential, nn.ReLU(), nil)
      fails("Sequential: part 1 must be a module or a function, got nil", nn.Sequential, nil)
      fails("Sequential: part 1 must be a module or a function, got table", nn.Sequential, {nn.ReLU()}, nn.ReLU())
      fails("part 1 must be a module or a function, got the class ReLU: call it", nn.Sequential, nn.ReLU, nn.ReLU())
      fails("part 1 must be a module or a function, got the class ReLU: call it", nn.Sequential, nn.ReLU)
    end)

    it("gives every parameter its gradient", function()
      local net = network()
      net(fp8.randn(7, 6, on)):sum():backward()
      local count = 0
      for _, parameter in ipairs(net:parameters()) do
        count = count + 1
        assert.same(parameter.shape, parameter.grad.shape)
      end
      assert.equal(6, count)
      net:zero_grad()
      for _, parameter in ipairs(net:parameters()) do assert.is_nil(parameter.grad) end
    end)
  end)

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
      fails("load_state_dict: 1.weight must be a tensor, got nil", loaded)
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
      refused({"5.weight", "nil"}, function(state) state["5.weight"] = nil end)
      refused({"5.weight", "number"}, function(state) state["5.weight"] = 3 end)
      refused({"5.weight", "(3, 4)", "(4, 3)"}, function(state) state["5.weight"] = fp8.zeros(4, 3) end)
      refused({"5.weight", "(3, 4)", "(12)"}, function(state) state["5.weight"] = fp8.zeros(12) end)
      refused({"6.weight"}, function(state) state["6.weight"] = fp8.zeros(1) end)
      fails("load_state_dict: ", function() net:load_state_dict() end)
      fails("load_state_dict: ", function() net:load_state_dict(fp8.zeros(3)) end)
    end)
  end)

  describe("A linear layer", function()
    it("starts uniform in ±1 / √in_features", function()
      for _, name in ipairs {"Linear", "LinearMixed", "LinearGlobal"} do
        for _, features in ipairs {1, 50, 400} do
          fp8.manual_seed(4)
          local layer = fp8[name](features, 300, on)
          local bound = 1 / math.sqrt(features)
          for _, parameter in ipairs {layer.weight:detach(), layer.bias:detach()} do
            local values = support.flat(parameter)
            local sum, squares, low, high = 0, 0, math.huge, -math.huge
            for _, value in ipairs(values) do
              sum, squares = sum + value, squares + value ^ 2
              low, high = math.min(low, value), math.max(high, value)
            end
            assert.is_true(low >= -bound and high <= bound)
            assert.is_true(low < -0.95 * bound and high > 0.95 * bound)
            -- Five standard deviations of the mean, and of the mean square, of uniform values.
            assert.near(0, sum / #values, 5 * bound / math.sqrt(3 * #values))
            assert.near(bound ^ 2 / 3, squares / #values, 5 * bound ^ 2 * math.sqrt(4 / 45 / #values))
          end
        end
      end
    end)

    it("starts the same for a seed, in every class and on every device", function()
      local start
      for _, name in ipairs {"Linear", "LinearMixed", "LinearGlobal"} do
        for _, place in ipairs {"cpu", device} do
          fp8.manual_seed(11)
          local layer = fp8[name](20, 10, {device = place})
          start = start or {layer.weight:totable(), layer.bias:totable()}
          assert.same(start, {layer.weight:totable(), layer.bias:totable()})
        end
      end
      assert.is_not.same(start[1], fp8.Linear(20, 10, on).weight:totable())
    end)

    it("has the fields and text of its sizes", function()
      local layer = fp8.LinearMixed(6, 3, on)
      assert.equal(6, layer.in_features)
      assert.equal(3, layer.out_features)
      assert.same({3, 6}, layer.weight.shape)
      assert.same({3}, layer.bias.shape)
      assert.is_true(layer.weight.requires_grad and layer.weight.is_leaf)
      assert.is_truthy(tostring(layer):find("LinearMixed(6, 3", 1, true))
    end)

    it("refuses wrong sizes and options", function()
      for _, name in ipairs {"Linear", "LinearMixed", "LinearGlobal"} do
        for _, size in ipairs {0, -1, 1.5, 0 / 0, 2 ^ 60, "4", {}} do
          fails(name .. ": in_features", fp8[name], size, 3)
          fails(name .. ": out_features", fp8[name], 3, size)
        end
        fails(name .. ": in_features", fp8[name])
        fails(name .. ": ", fp8[name], 3, 3, 3)
        fails("f64", fp8[name], 3, 3, {dtype = "f64"})
        fails("gpu", fp8[name], 3, 3, {device = "gpu"})
        fails("out of memory", fp8[name], 2 ^ 20, 2 ^ 25, on)
      end
    end)

    it("refuses wrong inputs and names both shapes", function()
      for _, name in ipairs {"Linear", "LinearMixed", "LinearGlobal"} do
        local layer = fp8[name](4, 3, on)
        fails("(2, 5)", layer, fp8.zeros(2, 5, on))
        fails("(3, 4)", layer, fp8.zeros(2, 5, on))
        fails("1 to 4 dimensions", layer, fp8.zeros(1, 1, 1, 2, 4, on))
        fails("1 to 4 dimensions", layer, fp8.tensor(1, on))
        fails("i64", layer, fp8.zeros(2, 4, {device = device, dtype = "i64"}))
        fails("e4m3", layer, fp8.zeros(2, 4, {device = device, dtype = "e4m3"}))
        fails("must be a tensor, got string", layer, "x")
        fails("must be a tensor, got nil", layer)
        layer:to "bf16"
        fails("bf16", layer, fp8.zeros(2, 4, on))
      end
    end)
  end)
end)

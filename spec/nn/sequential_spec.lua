-- Sequential: a list of parts as one module.
local fp8 = require "fp8"
local support = require "spec.support"

local nn, fails = fp8.nn, support.fails

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
      fails("Sequential: element 2 of the list is missing", nn.Sequential, {nn.ReLU(), nil, nn.ReLU()})
      fails("Sequential: a list is expected, got a table with a field 'head'", nn.Sequential, {head = nn.ReLU()})
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
end)

-- fp8.watch.find, and the names of modules that it gives.
local fp8 = require "fp8"
local support = require "spec.support"
local watch_model = require "spec.support.watch_model"

local fails = support.fails

support.each_device(function(device)
  local on = {device = device}
  local build, batch = watch_model(device)

  describe("fp8.watch.find", function()
    local Broken = fp8.nn.Module:extend "Broken"
    function Broken:init(f) self.f, self.scale = f, fp8.ones(32, {device = device, requires_grad = true}) end
    function Broken:forward(x) return self.f(x * self.scale) end

    local function model_with(f)
      local model = build()
      model[4] = Broken(f)
      return model
    end

    local function find(model, x)
      local own_x, target = batch(2)
      local finding = fp8.watch.find(model, function()
        local loss = fp8.cross_entropy(model(x or own_x), target)
        loss:backward()
        return loss
      end)
      return finding and tostring(finding)
    end

    it("finds nothing in a sound step, and leaves its gradients", function()
      local model, twin = build(), build()
      assert.is_nil(find(model))
      local x, target = batch(2)
      fp8.cross_entropy(twin(x), target):backward()
      for name, parameter in twin:named_parameters() do
        for other, own in model:named_parameters() do
          if other == name then support.equal(own.grad, parameter.grad) end
        end
      end
    end)

    it("names the first module whose output is not finite", function()
      local model = model_with(function(x) return fp8.where(fp8.arange(32, on):eq(7), math.huge, x) end)
      assert.equal("4: output has 40 non-finite values, first at (1, 8) of shape (40, 32)", find(model))
    end)

    it("names a parameter, an input, and the loss", function()
      local model = build()
      fp8.no_grad(function() model[3].weight[32]:narrow(1, 64, 1):fill_(-math.huge) end)
      assert.equal("3: weight has 1 non-finite value, first at (32, 64) of shape (32, 64)", find(model))
      local x = batch(2)
      x[40][48] = 0 / 0
      assert.equal("Sequential: input has 1 non-finite value, first at (40, 48) of shape (40, 48)", find(build(), x))
      model = build()
      local finding = fp8.watch.find(model, function() return model((batch(1))):sum() * math.huge end)
      assert.equal("what the function returned has 1 non-finite value, first at () of shape ()", tostring(finding))
      assert.equal("", finding.layer)
    end)

    it("names the gradient that was first in the backward pass", function()
      local spoil = fp8.Function{
        name = "spoil",
        forward = function(_, x) return x * 1 end,
        backward = function(_, grad)
          grad = grad:clone()
          grad[3]:narrow(1, 2, 1):fill_(0 / 0)
          return grad
        end,
      }
      -- Of 4's own parts only the product with its scale comes after this in the backward pass.
      assert.equal("4: the gradient of scale has 1 non-finite value, first at (2) of shape (32)",
        find(model_with(spoil)))
      local model = build()
      model[2] = function(x) return spoil(x) end
      assert.equal("1: grad_output has 1 non-finite value, first at (3, 2) of shape (40, 64)", find(model))
    end)

    it("looks into transformers, at norms and embeddings too", function()
      local Net = fp8.nn.Module:extend "Net"
      function Net:init()
        self.tokens = fp8.nn.Embedding(7, 16, on)
        self.blocks = fp8.nn.Sequential(
          fp8.nn.TransformerBlock(16, 2, {device = device, causal = true}), fp8.nn.TransformerBlock(16, 2, on))
        self.norm = fp8.nn.LayerNorm(16, on)
      end
      function Net:forward(ids) return self.norm(self.blocks(self.tokens(ids))) end
      local ids = fp8.randint(0, 7, {3, 5}, on)
      local function find_in(damage)
        local model = Net()
        fp8.no_grad(damage, model)
        return fp8.watch.find(model, function()
          local sum = model(ids):sum()
          sum:backward()
          return sum
        end)
      end
      assert.is_nil(find_in(function() end))
      for name, parameter in Net():named_parameters() do
        local finding = find_in(function(model)
          for other, own in model:named_parameters() do
            if other == name then own:view(-1):narrow(1, own:numel(), 1):fill_(0 / 0) end
          end
        end)
        assert.equal(name, finding.layer .. "." .. finding.tensor)
        assert.equal(parameter:numel(), finding.first_nonfinite)
      end
      -- Finite parameters that make one part overflow.
      local finding = find_in(function(model)
        model.blocks[2].norm2.weight:fill_(0)
        model.blocks[2].norm2.bias:fill_(1)
        model.blocks[2].mlp.fc1.weight:fill_(1e38) -- sums of 16 are beyond float32's range in any order
      end)
      assert.equal("blocks.2.mlp.fc1", finding.layer)
      assert.equal("output", finding.tensor)
    end)

    it("passes errors on and leaves no hook", function()
      local model = build()
      fails("on purpose", fp8.watch.find, model, function() error "on purpose" end)
      assert.is_false(require("fp8.nn.calls").observer)
      fails("find: a module is needed, got number", fp8.watch.find, 3)
      fails("find: a function is needed, got nil", fp8.watch.find, model)
    end)
  end)
end)

describe("module:named_modules", function()
  it("gives a module and all of its parts once, with their names", function()
    local shared = fp8.nn.ReLU()
    local model = fp8.nn.Sequential(fp8.nn.Sequential(fp8.Linear(2, 3), shared), shared, fp8.Linear(3, 2))
    local names = {}
    for name, module in model:named_modules() do table.insert(names, name .. ":" .. module.class_name) end
    assert.same({":Sequential", "1:Sequential", "1.1:Linear", "1.2:ReLU", "3:Linear"}, names)
  end)
end)

-- Recurrent layers: names, states, dtypes, memory, long sequences, errors. (nn/sequence_spec compares with PyTorch.)
local core = require "fp8.core"
local fp8 = require "fp8"
local support = require "spec.support"

local nn, fails = fp8.nn, support.fails

support.each_device(function(device)
  local on = {device = device}

  describe("A recurrent layer", function()
    it("has PyTorch's names, and starts as its does", function()
      local names = {}
      for name in nn.LSTM(3, 4, {num_layers = 2, bidirectional = true, device = device}):named_parameters() do
        table.insert(names, name)
      end
      local expected = {}
      for _, kind in ipairs {"bias_hh", "bias_ih", "weight_hh", "weight_ih"} do
        for _, suffix in ipairs {"_l0", "_l0_reverse", "_l1", "_l1_reverse"} do
          table.insert(expected, kind .. suffix)
        end
      end
      assert.same(expected, names)
      local gru = nn.GRU(3, 64, on)
      assert.same({192, 3}, gru.weight_ih_l0.shape)
      assert.same({192, 64}, gru.weight_hh_l0.shape)
      local largest = gru.weight_hh_l0:detach():abs():max():item()
      assert.is_true(largest <= 1 / 8 and largest > 0.99 / 8)
      assert.equal("GRU(3, 64)  13,248 parameters", tostring(gru))
      local options = {num_layers = 2, bias = false, batch_first = true, dropout = 0.5, bidirectional = true}
      local text = "LSTM(3, 4, num_layers = 2, bias = false, batch_first, dropout = 0.5, bidirectional)  608 parameters"
      support.fails("LSTM: option num_layers must be at most 1024, got 1e+15", nn.LSTM, 3, 4, {num_layers = 1e15})
      assert.equal(text, tostring(nn.LSTM(3, 4, options)))
    end)

    it("goes on from its states as if it had not stopped", function()
      for _, class in ipairs {"GRU", "LSTM"} do
        local layer, x = nn[class](3, 4, {num_layers = 2, device = device}), fp8.randn(7, 2, 3, on)
        local whole = layer(x):detach()
        local first, states = layer(x:narrow(1, 1, 3))
        support.close(first:detach(), whole:narrow(1, 1, 3), 1e-6)
        support.close(layer(x:narrow(1, 4, 4), states):detach(), whole:narrow(1, 4, 4), 1e-6)
      end
    end)

    it("is its cell, step by step", function()
      for _, class in ipairs {"GRU", "LSTM"} do
        local layer, cell = nn[class](3, 4, on), nn[class .. "Cell"](3, 4, on)
        for _, name in ipairs {"weight_ih", "weight_hh", "bias_ih", "bias_hh"} do cell[name] = layer[name .. "_l0"] end
        local x, hidden, memory = fp8.randn(5, 2, 3, on), nil, nil
        local y = layer(x):detach()
        for step = 1, 5 do
          hidden, memory = cell(x[step], class == "LSTM" and hidden and {hidden, memory} or hidden)
          support.close(hidden:detach(), y[step], 1e-6)
        end
      end
    end)

    it("drops outputs between layers, in training", function()
      local layer = nn.GRU(3, 4, {num_layers = 2, dropout = 0.9, device = device})
      local x = fp8.randn(5, 2, 3, on)
      assert.is_true(support.error(layer(x):detach(), layer(x):detach()) > 0)
      layer:eval()
      support.equal(layer(x):detach(), layer(x):detach())
    end)

    it("takes float32 parameters beside 16-bit inputs", function()
      local layer, x = nn.LSTM(8, 8, on), fp8.randn(4, 2, 8, {device = device, dtype = "bf16"})
      local y = layer(x)
      assert.equal("bf16", y.dtype)
      y:backward(x)
      for _, parameter in ipairs(layer:parameters()) do assert.equal("f32", parameter.grad.dtype) end
    end)

    it("learns to remember, in a graph too", function()
      fp8.manual_seed(5)
      local layer, head = nn.GRU(2, 24, {batch_first = true, device = device}), fp8.Linear(24, 1, on)
      local model = nn.ModuleList {layer, head}
      local optimizer = fp8.optim.AdamW(model, {lr = 0.02})
      -- The sum of the numbers that are marked, two in a sequence of ten.
      local numbers, marks = fp8.rand(64, 10, on), fp8.zeros(64, 10, on)
      marks:narrow(2, 2, 1):fill_(1)
      marks:narrow(2, 7, 1):fill_(1)
      local x, target = fp8.stack({numbers, marks}, 3), (numbers * marks):sum(2)
      local function train()
        optimizer:zero_grad()
        local loss = fp8.mse_loss(head(layer(x):select(2, -1)):squeeze(2), target)
        loss:backward()
        optimizer:step()
        return loss:detach()
      end
      local step = device == "cpu" and train or fp8.cuda.graph(train)
      local first, last = step():item(), nil
      for _ = 1, 150 do last = step():item() end
      assert.is_true(last < 0.1 * first, ("%g, then %g"):format(first, last))
    end)

    it("computes the products of its inputs by a recipe", function()
      for _, recipe in ipairs {"mixed", "rowwise", fp8.recipes.global} do
        local quantized = nn.GRU(64, 32, {recipe = recipe, num_layers = 2, device = device})
        local linear = fp8.Linear(64, 96, {recipe = recipe, device = device})
        linear.weight, linear.bias = quantized.weight_ih_l0, quantized.bias_ih_l0
        -- A layer whose inputs are the gates.
        local plain = nn.GRU(96, 32, {bias = false, device = device})
        fp8.no_grad(function() plain.weight_ih_l0:copy_(fp8.eye(96, on)) end)
        plain.weight_hh_l0, plain.bias_hh_l0 = quantized.weight_hh_l0, quantized.bias_hh_l0
        local x, dy = fp8.randn(5, 16, 64, on), fp8.randn(5, 16, 32, on)
        local a, b = x:clone():requires_grad_(), x:clone():requires_grad_()
        quantized.num_layers = 1
        local y, expected = quantized(a, fp8.zeros(1, 16, 32, on)), plain(linear(b))
        support.close(y:detach(), expected:detach(), 1e-5)
        y:backward(dy)
        expected:backward(dy)
        support.close(a.grad, b.grad, 1e-4)
        assert.is_true(support.error(y:detach(), plain(x:matmul(linear.weight:detach():t()) + linear.bias:detach())
          :detach()) > 1e-3)
        assert.equal(8, #quantized:parameters())
      end
      assert.is_truthy(nn.LSTMCell(16, 4, {recipe = "mixed", device = device})(fp8.randn(3, 16, on)))
      fails("GRU: delayed scaling is for linear layers, which keep the history", nn.GRU, 16, 4, {recipe = "delayed"})
      fails("GRU: there is no recipe 'mixt' in fp8.recipes", nn.GRU, 16, 4, {recipe = "mixt"})
      local misspelt = fp8.recipe "mixed"
      misspelt.foward = "full"
      fails("GRU: recipe: unknown field foward; did you mean forward?", nn.GRU, 16, 4, {recipe = misspelt})
    end)

    it("goes through ten thousand steps", function()
      local layer, x = nn.GRU(2, 3, on), fp8.randn(10000, 1, 2, on):requires_grad_()
      local y, last = layer(x)
      last:sum():backward()
      assert.equal(1, x.grad:isfinite():all():item())
      assert.equal(0, x.grad:narrow(1, 1, 5000):abs():max():item()) -- too far back
      support.equal(y:detach()[10000], last:detach()[1])
    end)

    it("frees what it keeps with the graph, and can go back twice", function()
      for _, class in ipairs {"GRU", "LSTM"} do
        local layer, x = nn[class](64, 64, on), fp8.randn(50, 16, 64, on)
        collectgarbage()
        collectgarbage()
        local before = core.memory(device).in_use
        local y = layer(x)
        local loss = y:square():sum()
        assert.is_true(core.memory(device).in_use - before > 50 * 16 * 64 * 4 * 5)
        loss:backward(nil, {retain_graph = true})
        local once = layer.weight_hh_l0.grad:clone()
        loss:backward()
        support.close(layer.weight_hh_l0.grad, once * 2, 1e-5)
        assert.is_true(support.in_use(device) - before < 50 * 16 * 64 * 4 * 3)
        local hidden = fp8.randn(1, 16, 64, on)
        y = layer(x, class == "LSTM" and {hidden, hidden:clone()} or hidden):sum()
        hidden:fill_(0)
        fails("recurrence needs for its derivative was changed in place", function() y:backward() end)
      end
    end)

    it("says what does not fit", function()
      local gru, lstm, x = nn.GRU(3, 4, on), nn.LSTM(3, 4, on), fp8.zeros(5, 2, 3, on)
      fails("GRU: the input must be (steps, batch, features) or (steps, features) with 3 features, got shape (5, 2, 4)",
        gru, fp8.zeros(5, 2, 4, on))
      fails("LSTM: at least one step is needed, got none", lstm, fp8.zeros(0, 2, 3, on))
      fails("GRU: the hidden state must be f32 of shape (1, 2, 4) on", gru, x, fp8.zeros(2, 4, on))
      fails("LSTM: the cell must be f32 of shape (1, 2, 4) on", lstm, x,
        {fp8.zeros(1, 2, 4, on), fp8.zeros(1, 2, 3, on)})
      fails("LSTM: the states must be a list of the hidden state and the cell, got userdata", lstm, x,
        fp8.zeros(1, 2, 4, on))
      fails("GRU: the input must be a tensor, got nil", gru)
      fails("GRU: it takes an input and a hidden state and nothing else", gru, x, nil, x)
      fails("GRU: unknown option layers", nn.GRU, 3, 4, {layers = 2})
      fails("GRU: hidden_size must be a whole number", nn.GRU, 3)
      fails("LSTMCell: the input must be (batch, features) or (features) with 3 features, got shape (5, 2, 3)",
        nn.LSTMCell(3, 4, on), x)
      assert.same({3, 0, 4}, gru(fp8.zeros(3, 0, 3, on)).shape)
    end)
  end)
end)

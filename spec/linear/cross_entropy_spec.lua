-- fp8.linear_cross_entropy and layer:cross_entropy: the numbers of a linear layer and fp8.cross_entropy, whatever the
-- chunks.
local fp8 = require "fp8"
local support = require "spec.support"
local reference = require "spec.support.reference.cross_entropy"

local classes, features = 37, 16

local function inputs(rows, dtype, device, weight_dtype)
  local function leaf(sizes, own) return fp8.randn(sizes, {device = device}):to(own or dtype):requires_grad_() end
  local random, labels = support.random(rows), {}
  for i = 1, rows do labels[i] = random(3) == 1 and -100 or random(classes) - 1 end
  for i = 3, 11 do labels[i] = rows > 11 and -100 or labels[i] end -- whole chunks of the small ones
  return {
    x = leaf {rows, features}, weight = leaf({classes, features}, weight_dtype), bias = leaf {classes},
    targets = fp8.tensor(labels, {dtype = "i64", device = device}), labels = labels,
    class_weight = fp8.rand(classes, {device = device}) + 0.5,
  }
end

--- The gradients after loss:backward(upstream), which are dropped.
local function gradients_of(t, loss, upstream)
  loss:backward(upstream)
  local grads = {}
  for _, name in ipairs {"x", "weight", "bias"} do
    local leaf = t[name]
    if leaf then grads[name], leaf.grad = leaf.grad, nil end
  end
  return grads
end

local function with(options, more)
  local all = {}
  for name, value in pairs(options) do all[name] = value end
  for name, value in pairs(more) do all[name] = value end
  return all
end

--- Products in double: logits of a case as lists.
local function logits_of(t)
  local x, w, b = t.x:detach():totable(), t.weight:detach():totable(), t.bias:detach():totable()
  local rows = {}
  for r, row in ipairs(x) do
    rows[r] = {}
    for c = 1, classes do
      local sum = b[c]
      for k = 1, features do sum = sum + row[k] * w[c][k] end
      rows[r][c] = sum
    end
  end
  return rows, x, w
end

support.each_device(function(device)
  describe("linear_cross_entropy", function()
    -- The same product has the same bits every time.
    setup(function() fp8.set_deterministic(true) end)
    teardown(function() fp8.set_deterministic(false) end)

    it("and its gradients are what the formulas say", function()
      for _, rows in ipairs {5, 23} do
        local t = inputs(rows, "f32", device)
        local logits, x, w = logits_of(t)
        for _, reduction in ipairs {"mean", "sum", "none"} do
          local rule = {ignored = -100, smoothing = 0.2, weight = t.class_weight:totable(), reduction = reduction}
          local upstream = fp8.rand(reduction == "none" and {rows} or {}, {device = device})
          local loss, dlogits = reference(logits, t.labels, rule, upstream:totable())
          local dx, dw, db = {}, {}, {}
          for c = 1, classes do dw[c], db[c] = {}, 0 end
          for r = 1, rows do
            dx[r] = {}
            for k = 1, features do dx[r][k] = 0 end
            for c = 1, classes do
              local d = dlogits[r][c]
              db[c] = db[c] + d
              for k = 1, features do
                dx[r][k] = dx[r][k] + d * w[c][k]
                dw[c][k] = (dw[c][k] or 0) + d * x[r][k]
              end
            end
          end
          local y = fp8.linear_cross_entropy(t.x, t.weight, t.targets, {
            bias = t.bias, rows = 4, ignore_index = -100, label_smoothing = 0.2, class_weight = t.class_weight,
            reduction = reduction,
          })
          support.close(y:detach(), fp8.tensor(loss))
          local grads = gradients_of(t, y, upstream)
          support.close(grads.x, fp8.tensor(dx))
          support.close(grads.weight, fp8.tensor(dw))
          support.close(grads.bias, fp8.tensor(db))
        end
      end
    end)

    for _, dtype in ipairs {"f32", "f16", "bf16"} do
      it("is a layer's, then the cross-entropy of its outputs, in " .. dtype, function()
        for _, weight_dtype in ipairs(dtype == "f32" and {"f32"} or {dtype, "f32"}) do
          local t = inputs(23, dtype, device, weight_dtype)
          local layer = fp8.Linear(features, classes, {device = device})
          layer.weight, layer.bias = t.weight, t.bias
          for _, reduction in ipairs {"mean", "sum", "none"} do
            local options = {reduction = reduction, ignore_index = -100, label_smoothing = 0.1}
            local upstream = fp8.rand(reduction == "none" and {23} or {}, {device = device})
            local loss = fp8.cross_entropy(layer(t.x), t.targets, options)
            local expected = gradients_of(t, loss, upstream)
            for _, rows in ipairs {1, 4, 23, 100} do
              local y = fp8.linear_cross_entropy(t.x, t.weight, t.targets, with(options, {bias = t.bias, rows = rows}))
              -- Logits of 16 bits from a product of other rows may be rounded the other way.
              support.close(y:detach(), loss:detach(), dtype == "f32" and 1e-5 or support.tolerance[dtype])
              local grads = gradients_of(t, y, upstream)
              for _, name in ipairs {"x", "weight", "bias"} do
                assert.equal(t[name].dtype, grads[name].dtype)
                support.close(grads[name], expected[name], 2 * support.tolerance[dtype])
              end
              support.close(fp8.no_grad(layer.cross_entropy, layer, t.x, t.targets, with(options, {rows = rows})),
                y:detach(), 1e-6)
            end
          end
        end
      end)
    end

    it("takes recipes, whose blocks are those of a chunk", function()
      for _, name in ipairs {"rowwise", "blocks", "mx", "mixed_native", "global"} do
        local t = inputs(48, "bf16", device)
        t.bias = nil
        local layer = fp8.Linear(features, classes, {device = device, recipe = name, bias = false})
        layer.weight = t.weight
        for _, rows in ipairs {48, 16} do
          -- The mean over all rows, of chunks that a layer gets one by one.
          local total = 0
          for first = 1, 48, rows do
            local part = t.x:narrow(1, first, rows)
            local losses = fp8.cross_entropy(layer(part), t.targets:narrow(1, first, rows),
              {reduction = "none", ignore_index = -100})
            total = total + losses:sum()
          end
          local count = t.targets:ne(-100):sum():item()
          local expected = gradients_of(t, total / count)
          local y = layer:cross_entropy(t.x, t.targets, {rows = rows, ignore_index = -100})
          support.close(y:detach(), (total / count):detach(), 1e-5)
          local grads = gradients_of(t, y)
          support.close(grads.x, expected.x, 1e-5)
          support.close(grads.weight, expected.weight, support.tolerance.bf16)
          local again = fp8.linear_cross_entropy(t.x, t.weight, t.targets,
            {rows = rows, ignore_index = -100, recipe = name})
          support.close(again:detach(), y:detach(), 0)
          support.close(gradients_of(t, again).x, grads.x, 0)
        end
      end
    end)

    it("enters one element a step into the histories of delayed scaling", function()
      for _, trained in ipairs {true, false} do
        local layer = fp8.Linear(features, classes, {device = device, recipe = "delayed"})
        layer.weight:requires_grad_(trained)
        local t = inputs(48, "f32", device)
        for step = 1, 2 do
          layer:cross_entropy(t.x, t.targets, {rows = 16, ignore_index = -100}):backward()
          local filled = layer.input_history:ne(0):sum():item()
          assert.equal(step, filled)
          support.close(layer.input_history:select(1, 1), t.x:detach():abs():max(), 0)
          fp8.no_grad(function() layer.weight:add_(0.5) end)
        end
      end
    end)

    it("computes gradients only of what wants one", function()
      local t = inputs(23, "f32", device)
      local options = {rows = 5, ignore_index = -100}
      local expected = gradients_of(t,
        fp8.linear_cross_entropy(t.x, t.weight, t.targets, with(options, {bias = t.bias})))
      for _, wanted in ipairs {"x", "weight", "bias"} do
        for _, reduction in ipairs {"mean", "none"} do
          local own = {}
          for _, name in ipairs {"x", "weight", "bias"} do
            own[name] = name == wanted and t[name] or t[name]:detach()
          end
          local y = fp8.linear_cross_entropy(own.x, own.weight, t.targets,
            with(options, {bias = own.bias, reduction = reduction}))
          local count = reduction == "none" and t.targets:ne(-100):sum():item() or 1
          local grads = gradients_of(t, y:sum() / count)
          support.close(grads[wanted], expected[wanted])
          for _, name in ipairs {"x", "weight", "bias"} do
            if name ~= wanted then assert.is_nil(grads[name]) end
          end
        end
      end
      assert.is_false(fp8.linear_cross_entropy(t.x:detach(), t.weight:detach(), t.targets, options).requires_grad)
    end)

    it("adds to the gradient of a weight that is used elsewhere too", function()
      local t = inputs(6, "f32", device)
      local tokens = fp8.tensor({0, 5, 5, 36, 2, 1}, {dtype = "i64", device = device})
      local function loss_of(f)
        local x = fp8.embedding(t.weight, tokens)
        return gradients_of(t, f(x * t.x)).weight
      end
      support.close(
        loss_of(function(x) return fp8.linear_cross_entropy(x, t.weight, tokens, {rows = 4}) end),
        loss_of(function(x) return fp8.cross_entropy(x:matmul(t.weight:t()), tokens) end))
    end)

    it("is differentiated as often as its graph is kept for", function()
      for _, reduction in ipairs {"mean", "none"} do
        local t = inputs(23, "f32", device)
        local y = fp8.linear_cross_entropy(t.x, t.weight, t.targets,
          {rows = 8, ignore_index = -100, reduction = reduction}):sum()
        y:backward(nil, {retain_graph = true})
        local x, weight = t.x.grad:clone(), t.weight.grad:clone()
        y:backward(fp8.full({}, 2, {device = device}), {retain_graph = true})
        y:backward()
        support.close(t.x.grad, x * 4)
        support.close(t.weight.grad, weight * 4)
        support.fails("released", function() y:backward() end)
      end
    end)

    it("does not miss a change in place of what it computes again", function()
      local t = inputs(23, "f32", device)
      local options = {rows = 8, ignore_index = -100, reduction = "none"}
      local y = fp8.linear_cross_entropy(t.x, t.weight, t.targets, options):sum()
      fp8.no_grad(function() t.weight:mul_(2) end)
      support.fails("changed in place", function() y:backward() end)
    end)

    it("takes inputs of any dimensions with targets of theirs, empty ones, and ones of any strides", function()
      local weight = fp8.randn(classes, features, {device = device, requires_grad = true})
      local x = fp8.randn(2, 3, features, {device = device, requires_grad = true})
      local targets = fp8.randint(0, classes, {2, 3}, {dtype = "i32", device = device})
      local flat = fp8.linear_cross_entropy(x:view(6, features), weight, targets:view(-1), {reduction = "none"})
      local whole = fp8.linear_cross_entropy(x, weight, targets, {reduction = "none", rows = 4})
      support.close(whole:detach():view(6), flat:detach())
      assert.same({2, 3}, whole.shape)
      assert.same({6}, fp8.linear_cross_entropy(x, weight, targets:view(-1), {reduction = "none"}).shape)
      fp8.linear_cross_entropy(x, weight, targets, {rows = 4}):backward()
      assert.same({2, 3, features}, x.grad.shape)
      local turned = x:detach():transpose(1, 2)
      support.close(fp8.linear_cross_entropy(turned, weight, targets:t()):detach(), flat:detach():mean())
      local single = fp8.linear_cross_entropy(x:detach()[1][1], weight, targets[1][1])
      support.close(single:detach(), flat:detach():select(1, 1))
      local none = fp8.randn(0, features, {device = device, requires_grad = true})
      local empty = fp8.linear_cross_entropy(none, weight, targets:view(-1):narrow(1, 1, 0), {reduction = "sum"})
      assert.equal(0, empty:item())
      weight.grad = nil
      empty:backward()
      assert.equal(0, weight.grad:abs():max():item())
      assert.same({0, features}, none.grad.shape)
    end)

    it("holds one chunk of logits", function()
      local rows, vocabulary = 256, 2048
      local x = fp8.randn(rows, 16, {device = device, requires_grad = true})
      local weight = fp8.randn(vocabulary, 16, {device = device, requires_grad = true})
      local targets = fp8.randint(0, vocabulary, {rows}, {device = device})
      local function peak(f)
        collectgarbage()
        collectgarbage()
        fp8.reset_peak_memory(device)
        local before = fp8.memory(device).in_use
        fp8.scope(function() f():backward() end)
        x.grad, weight.grad = nil, nil
        return fp8.memory(device).peak - before
      end
      local logits = rows * vocabulary * 4
      local in_chunks = peak(function() return fp8.linear_cross_entropy(x, weight, targets, {rows = 32}) end)
      assert.is_true(in_chunks < logits / 8 + 5 * weight:numel() * 4, in_chunks .. " bytes")
    end)

    it("refuses what does not fit", function()
      local t = inputs(5, "f32", device)
      local function refuses(text, x, weight, targets, options)
        support.fails("linear_cross_entropy: " .. text, function()
          fp8.linear_cross_entropy(x or t.x, weight or t.weight, targets or t.targets, options)
        end)
      end
      refuses("the input must be a tensor, got number", 1)
      refuses("the weight must be a tensor, got number", nil, 1)
      refuses("targets must be a tensor, got number", nil, nil, 1)
      refuses("the input must be f32, f16 or bf16, got i64", t.targets)
      refuses("the input is f32, the weight f16: write x:to", nil, t.weight:half())
      refuses("input (5, 16) and weight (16, 37): 16 and 37 features differ", nil, t.weight:t())
      refuses("an input (…, features) and targets of its other sizes, or a list of as many, are needed, got (5, 16) " ..
        "and (4)", nil, nil, t.targets:narrow(1, 1, 4))
      refuses("targets must be integers, got f32", nil, nil, t.targets:float())
      refuses("option rows must be a whole number of at least 1, got 0", nil, nil, nil, {rows = 0})
      refuses("a bias of shape (37) is needed, got (16)", nil, nil, nil, {bias = fp8.zeros(16, {device = device})})
      refuses("option bias must be a tensor, got boolean", nil, nil, nil, {bias = true})
      refuses("there is no recipe 'none' in fp8.recipes", nil, nil, nil, {recipe = "none"})
      refuses("delayed scaling is for layers", nil, nil, nil, {recipe = "delayed"})
      refuses("unknown option weight", nil, nil, nil, {weight = t.weight})
      refuses("reduction must be mean, sum or none, got max", nil, nil, nil, {reduction = "max"})
      refuses("options must be a table, got number", nil, nil, nil, 3)
      local layer = fp8.Linear(features, classes, {device = device})
      support.fails("cross_entropy: unknown option bias", function()
        layer:cross_entropy(t.x, t.targets, {bias = t.bias})
      end)
      for _, wrong in ipairs {classes, -1} do
        local targets = fp8.full({5}, wrong, {dtype = "i64", device = device})
        support.fails("out of range", function()
          fp8.linear_cross_entropy(t.x, t.weight, targets, {rows = 2}):item()
        end)
      end
    end)

    if device ~= "cpu" then
      it("is captured in a graph", function()
        local t = inputs(48, "bf16", device)
        local on = {ignore_index = -100, rows = 16, bias = t.bias}
        local graph = fp8.cuda.graph(function()
          t.x.grad, t.weight.grad, t.bias.grad = nil, nil, nil
          local loss = fp8.linear_cross_entropy(t.x, t.weight, t.targets, on)
          loss:backward()
          return loss:detach()
        end, device)
        for _ = 1, 3 do
          fp8.no_grad(function() t.x:copy_(fp8.randn(48, features, {device = device})) end)
          local loss = graph():clone()
          local grads = {x = t.x.grad:clone(), weight = t.weight.grad:clone(), bias = t.bias.grad:clone()}
          t.x.grad, t.weight.grad, t.bias.grad = nil, nil, nil
          local eager = fp8.linear_cross_entropy(t.x, t.weight, t.targets, on)
          support.close(loss, eager:detach(), 1e-6)
          local expected = gradients_of(t, eager)
          for name, grad in support.sorted_pairs(grads) do support.close(grad, expected[name], 4e-3) end
        end
      end)
    end
  end)
end)

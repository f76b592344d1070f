-- fp8.watch: what it records, by itself and in graphs.
local core = require "fp8.core"
local fp8 = require "fp8"
local support = require "spec.support"
local watch_model = require "spec.support.watch_model"

local fails = support.fails

local statistics = {
  "count", "zeros", "nonfinite", "first_nonfinite", "absmax", "rms", "mean", "snr", "underflow", "saturated",
  "relative_error",
}

-- Compiled traces hold tensors that they met, for as long as they last.
local function collected_memory(device)
  jit.flush()
  for _ = 1, 3 do collectgarbage() end
  return core.memory(device).in_use
end

support.each_device(function(device)
  local on = {device = device}

  local build, batch = watch_model(device)

  --- A training step, and the model and optimizer.
  local function training(model)
    model = model or build()
    local optimizer = fp8.optim.SGD(model, {lr = 0.1})
    local x, target = batch(0)
    local function step()
      optimizer:zero_grad()
      local loss = fp8.cross_entropy(model(x), target)
      loss:backward()
      optimizer:step()
      return loss
    end
    local function feed(i)
      local new_x, new_target = batch(i)
      x:copy_(new_x)
      target:copy_(new_target)
    end
    return step, feed, model
  end

  local function find_row(rows, step, layer, tensor)
    for _, row in ipairs(rows) do
      if row.step == step and row.layer == layer and row.tensor == tensor then return row end
    end
  end

  describe("A watcher", function()
    it("shows what attention quantizes, and nothing of attention without a recipe", function()
      local rows, tiles = {format = "e4m3", scale = "row"}, {format = "e2m1", scale = {1, 4}, scale_rounding = "mx"}
      local block = fp8.nn.TransformerBlock(16, 1, {device = device})
      local plain = fp8.nn.MultiHeadAttention(16, 1, {device = device})
      local model = fp8.nn.Sequential(block, plain)
      fp8.convert(model, {default = "mx", ["1.attention"] = {q = rows, v = tiles, probabilities = rows}})
      local watcher = fp8.watch(model, {every = 1, blocks = true})
      local x = fp8.randn(2, 7, 16, on)
      model(x):sum():backward()
      fp8.sensitivity(model, function() return model(x * 100):sum() end, "mx") -- is not watched
      watcher:step()
      local found = watcher:rows()
      local joined = fp8.no_grad(function() return block.attention.in_proj(block.norm1(x)) end)
      for i, tensor in ipairs {"q", "k", "v", "probabilities"} do
        local row = find_row(found, 1, "1.attention", tensor)
        assert.is_nil(find_row(found, 1, "2", tensor))
        if tensor == "k" then
          assert.is_nil(row)
        elseif tensor == "probabilities" then
          assert.same({"e4m3", "row", 2 * 7 * 7, 14}, {row.format, row.scale, row.count, row.blocks})
        else
          local operand = tensor == "q" and rows or tiles
          local part = joined:narrow(3, 16 * i - 15, 16):contiguous()
          local expected = fp8.analyze(part, {formats = {operand}, blocks = true})[1]
          for _, name in ipairs {"format", "scale", "count", "absmax", "snr", "saturated", "blocks"} do
            assert.equal(expected[name], row[name])
          end
        end
      end
      fp8.convert(model, {default = "mx", ["1.attention"] = false})
      model(x):sum():backward()
      watcher:step()
      assert.is_nil(find_row(watcher:rows(), 2, "1.attention", "q"))
      watcher:close()
    end)

    it("shows what a script's function makes of a tensor, and leaves out what is left alone", function()
      local function halves(x) return (x * 2):round() / 2 end
      local recipe = fp8.recipe("global", {input = {quantize = halves}, weight = "full"})
      local layer = fp8.Linear(16, 4, {device = device, recipe = recipe})
      local watcher = fp8.watch(fp8.nn.Sequential(layer), {every = 1})
      local x = fp8.randn(8, 16, {device = device})
      layer(x):sum():backward()
      watcher:step()
      local row = find_row(watcher:rows(), 1, "1", "input")
      assert.equal("function", row.format)
      assert.is_nil(row.scale)
      local lost = x - halves(x)
      local snr = 10 * math.log10((x * x):sum():item() / (lost * lost):sum():item())
      assert.near(snr, row.snr, 1e-3)
      assert.is_nil(find_row(watcher:rows(), 1, "1", "weight").format)
      assert.is_string(tostring(watcher))
      watcher:close()
    end)

    it("leaves a run as it is whose functions draw random numbers", function()
      local function noisy(x) return x + fp8.rand(x.shape, {device = device}) * 0.1 end
      local recipe = fp8.recipe("global", {input = {quantize = noisy}, grad_output = "full"})
      local function run(watched)
        fp8.manual_seed(4)
        local model = fp8.nn.Sequential(fp8.Linear(16, 16, {device = device, recipe = recipe}),
          fp8.Linear(16, 4, {device = device}))
        local watcher = watched and fp8.watch(model, {every = 1, blocks = true, recipe = recipe})
        local optimizer, y = fp8.optim.SGD(model, {lr = 0.1}), nil
        for _ = 1, 3 do
          optimizer:zero_grad()
          y = model(fp8.ones(8, 16, {device = device}))
          y:square():sum():backward()
          optimizer:step()
          if watched then watcher:step() end
        end
        if watched then
          assert.equal("function", find_row(watcher:rows(), 3, "1", "input").format)
          assert.equal("function", find_row(watcher:rows(), 3, "2", "input").format)
          assert.is_nil(find_row(watcher:rows(), 3, "1", "grad_output").format)
          watcher:close()
        end
        return y:detach()
      end
      fp8.set_deterministic(true)
      local watched, plain = run(true), run(false)
      fp8.set_deterministic(false)
      support.same_bytes(watched, plain)
    end)

    it("records what fp8.analyze says of the same tensors", function()
      local model = build()
      local x, target = batch(1)
      local watcher = fp8.watch(model, {every = 1, recipe = "mixed"})
      local outputs, inputs = {}, {}
      local h = x
      for i = 1, 5 do
        inputs[i] = h
        h = model[i](h)
        outputs[i] = h:retain_grad()
      end
      fp8.cross_entropy(h, target):backward()
      local weights = {}
      for i = 1, 5 do weights[i] = model[i].weight and model[i].weight:detach():clone() end
      watcher:step()
      local rows = watcher:rows()
      assert.equal(9, #rows)
      for _, i in ipairs {1, 3, 5} do
        local recipe = model[i].recipe or fp8.recipes.mixed
        for tensor, value in support.sorted_pairs {
          input = inputs[i], weight = weights[i], grad_output = outputs[i].grad,
        } do
          local row = find_row(rows, 1, tostring(i), tensor)
          -- With weight_grad = "full", the dy of a layer whose input needs no gradient is not quantized.
          if i == 1 and tensor == "grad_output" then
            assert.is_nil(row.format)
          else
            local expected = fp8.analyze(value, {formats = {recipe[tensor]}})[1]
            assert.equal(expected.format, row.format)
            assert.equal(expected.scale, row.scale)
            for _, name in ipairs(statistics) do assert.equal(expected[name], row[name], tensor .. " " .. name) end
          end
        end
      end
      watcher:close()
    end)

    it("records what each product takes, where that differs", function()
      local recipe = {
        input = {format = "e4m3", scale = "row"}, weight = {format = "e4m3", scale = {16, 16}},
        grad_output = {format = "e5m2", scale = "row"},
        input_grad = {weight = {format = "e5m2", scale = "column"}},
        weight_grad = {
          grad_output = {format = "e4m3", scale = "column", scale_rounding = "power_of_two"},
          input = {format = "e4m3", scale = 32, scale_rounding = "mx"},
        },
      }
      local layer = fp8.Linear(48, 32, {device = device, recipe = recipe})
      local watcher = fp8.watch(layer, {every = 1})
      local x = fp8.randn(40, 48, {device = device, requires_grad = true})
      local y = layer(x):retain_grad()
      local loss = (y * y):sum()
      loss:backward()
      watcher:step()
      local rows = watcher:rows()
      assert.equal(6, #rows)
      for name, case in support.sorted_pairs {
        input = {x, recipe.input}, weight = {layer.weight, recipe.weight}, grad_output = {y.grad, recipe.grad_output},
        ["weight for dx"] = {layer.weight, recipe.input_grad.weight},
        ["input for dW"] = {x, recipe.weight_grad.input},
        ["grad_output for dW"] = {y.grad, recipe.weight_grad.grad_output},
      } do
        local expected, row = fp8.analyze(case[1], {formats = {case[2]}})[1], find_row(rows, 1, "Linear", name)
        assert.equal(expected.scale, row.scale)
        for _, statistic in ipairs(statistics) do assert.equal(expected[statistic], row[statistic], name) end
      end
      assert.is_true(find_row(rows, 1, "Linear", "input for dW").saturated > 0)
      watcher:close()
    end)

    it("shows what a delayed scale saturates, and leaves its history", function()
      local operand = {format = "e4m3", scale = "tensor", history = 4}
      local recipe = {input = operand, weight = operand, grad_output = operand, weight_grad = "quantized"}
      local layers = {}
      for i = 1, 2 do
        fp8.manual_seed(3)
        layers[i] = fp8.Linear(32, 16, {device = device, recipe = recipe})
      end
      local watcher = fp8.watch(layers[1], {every = 1})
      local x = fp8.randn(20, 32, on)
      for step = 1, 3 do
        for i = 1, 2 do layers[i](x * 4 ^ step):sum():backward() end
        watcher:step()
      end
      for name, history in pairs(layers[2]:state_dict()) do support.equal(layers[1]:state_dict()[name], history) end
      local rows, absmax, beyond = watcher:rows(), x:abs():max():item(), 0
      for _, value in ipairs(support.flat(x)) do
        if math.abs(value * 4) > absmax * 464 / 448 then beyond = beyond + 1 end
      end
      assert.equal(0, find_row(rows, 1, "Linear", "input").saturated)
      for step = 2, 3 do
        assert.is_true(math.abs(find_row(rows, step, "Linear", "input").saturated - beyond / 640) < 1e-9)
      end
      watcher:close()
    end)

    it("leaves the run as it is, stochastic rounding included", function()
      local function losses(watching)
        local step, feed, model = training(build {device = device, rounding = "stochastic"})
        local watcher = watching and fp8.watch(model, {every = 2})
        local list = {}
        for i = 1, 6 do
          feed(i)
          list[i] = step():item()
          if watcher then watcher:step() end
        end
        return list
      end
      assert.same(losses(false), losses(true))
    end)

    it("records every so many steps and takes its hooks away in between", function()
      local step, feed, model = training()
      local watcher = fp8.watch(model, {every = 3})
      for i = 1, 10 do
        feed(i)
        assert.equal(i % 3 == 0, watcher:due())
        assert.equal(i % 3 == 0, model[3].state.observer ~= nil)
        step()
        watcher:step()
      end
      local steps, last = {}, nil
      for _, row in ipairs(watcher:rows()) do
        if row.step ~= last then table.insert(steps, row.step) end
        last = row.step
      end
      assert.same({3, 6, 9}, steps)
      watcher:close()
      for _ = 11, 13 do
        step()
        watcher:step()
        assert.is_false(watcher:due())
        assert.is_nil(model[1].state.observer)
      end
      assert.equal(9, watcher:rows()[#watcher:rows()].step)
      fp8.watch(model):close()
    end)

    it("holds a fixed amount of the device's memory, and gives it back", function()
      local step, _, model = training()
      step()
      local before = collected_memory(device)
      local watcher = fp8.watch(model, {every = 1})
      local held
      for i = 1, 70 do
        fp8.scope(function()
          step()
          watcher:step()
        end)
        if i == 5 then held = collected_memory(device) end
        if i > 5 and i < 60 and i % 10 == 0 then assert.equal(held, collected_memory(device)) end
      end
      assert.equal(70 * 9, #watcher:rows())
      assert.equal(70, watcher:rows()[70 * 9].step)
      if device ~= "cpu" then assert.equal(held, collected_memory(device)) end
      watcher:close()
      if device ~= "cpu" then assert.is_true(collected_memory(device) <= before) end
    end)

    it("prints the last step, worst first, and saves all steps", function()
      local step, feed, model = training()
      local watcher = fp8.watch(model, {every = 2})
      assert.equal("nothing recorded yet", tostring(watcher))
      for i = 1, 4 do
        feed(i)
        step()
        watcher:step()
      end
      local text = tostring(watcher)
      assert.is_truthy(text:find "^step 4, worst first:\n +layer +tensor +format +scale +absmax +rms +snr dB +under")
      local ratios = {}
      for layer, tensor, _, ratio in text:gmatch "\n +(%d) +([%w_]+) +(e[%w_]+ +%w+) +%S+ +%S+ +(%S+)" do
        table.insert(ratios, tonumber(ratio))
        local row = find_row(watcher:rows(), 4, layer, tensor)
        assert.is_true(math.abs(row.snr - tonumber(ratio)) <= 0.051)
      end
      assert.equal(5, #ratios)
      for i = 2, 5 do assert.is_true(ratios[i] >= ratios[i - 1]) end
      local path = os.tmpname()
      watcher:save(path)
      local lines = {}
      for line in support.read_file(path):gmatch "[^\n]+" do table.insert(lines, line) end
      os.remove(path)
      assert.equal(1 + 2 * 9, #lines)
      assert.equal("step,layer,tensor,format,scale,count,zeros,nonfinite,first_nonfinite,absmax,rms,mean,snr,underflow,"
        .. "saturated,relative_error", lines[1])
      assert.is_truthy(lines[2]:find "^2,1,weight,e4m3_map,tensor,3072,0,0,,0%.%d+,0%.%d+,[%d.e-]+,3%d%.%d+,0,0,0%.%d")
      assert.is_truthy(lines[16]:find "^4,3,grad_output,e5m2,tensor,")
      assert.is_truthy(lines[17]:find "^4,5,weight,,,320,0,0,,0%.%d+,0%.%d+,[%d.e-]+,,,,$")
      watcher:close()
    end)

    it("says where the first NaN of a run was", function()
      for _, case in ipairs {
        {4, "3: weight has 1 non-finite value, first at (2, 5) of shape (32, 64)", function(model)
          model[3].weight[2]:narrow(1, 5, 1):fill_(0 / 0)
        end},
        {5, "1: input has 2 non-finite values, first at (7, 1) of shape (40, 48)", function(_, x)
          x[7]:narrow(1, 1, 2):fill_(math.huge)
        end},
        {6, "5: grad_output has ", function(model) model[5].weight:fill_(3e38) end},
      } do
        local at, text, damage = unpack(case)
        local model = build()
        local x, target = batch(1)
        local watcher = fp8.watch(model, {every = 1})
        for i = 1, 8 do
          if i == at then fp8.no_grad(damage, model, x) end
          fp8.cross_entropy(model(x), target):backward()
          watcher:step()
          model:zero_grad()
        end
        local finding = watcher:first_bad()
        assert.equal(at, finding.step)
        local found = tostring(finding)
        assert.equal(("step %d: %s"):format(at, text), found:sub(1, #text + 8))
        watcher:close()
      end
    end)

    it("says which step was the last good one where not every step is recorded", function()
      local step, _, model = training()
      local watcher = fp8.watch(model, {every = 5})
      for i = 1, 15 do
        if i == 8 then fp8.no_grad(function() model[1].bias:fill_(0 / 0) end) end
        step()
        watcher:step()
        if i == 5 then assert.is_nil(watcher:first_bad()) end
      end
      local finding = watcher:first_bad()
      assert.equal(10, finding.step)
      assert.is_truthy(tostring(finding):find("(step 5, the last one recorded before, was finite)", 1, true))
      watcher:close()
    end)

    it("takes 16-bit tensors of several dimensions, and layers used twice", function()
      local layer = fp8.LinearMixed(16, 16, {device = device, dtype = "bf16"})
      local model = fp8.nn.Sequential(layer, fp8.nn.GELU(), layer)
      local watcher = fp8.watch(model, {every = 1})
      model(fp8.randn(2, 3, 5, 16, {device = device, dtype = "bf16"})):sum():backward()
      watcher:step()
      local rows = watcher:rows()
      assert.equal(3, #rows)
      assert.equal(480, find_row(rows, 1, "1", "input").count)
      assert.equal(480, find_row(rows, 1, "1", "grad_output").count)
      watcher:close()
      local alone = fp8.watch(layer, {every = 1})
      layer(fp8.randn(4, 16, {device = device, dtype = "bf16"}))
      alone:step()
      assert.equal("LinearMixed", alone:rows()[1].layer)
      alone:close()
    end)

    it("refuses what it can't watch", function()
      local model = build()
      fails("watch: a module is needed, got nil", fp8.watch)
      fails("watch: a module is needed, got userdata", fp8.watch, fp8.zeros(3))
      fails("watch: the model has no linear layers", fp8.watch, fp8.nn.Sequential(fp8.nn.ReLU()))
      fails("watch: options must be a table, got number", fp8.watch, model, 10)
      fails("watch: unknown option interval", fp8.watch, model, {interval = 3})
      for _, every in ipairs {0, -1, 1.5, math.huge, 0 / 0, "ten", false} do
        fails("watch: option every must be a whole number of at least 1, got " .. tostring(every), fp8.watch, model,
          {every = every})
      end
      fails("watch: there is no recipe 'none' in fp8.recipes", fp8.watch, model, {recipe = "none"})
      fails("watch: recipe.input must be a table", fp8.watch, model, {recipe = {}})
      local watcher = fp8.watch(model)
      fails("watch: layer 1 is watched already; close that watcher first", fp8.watch, model)
      fails("save: path must be a string, got nil", watcher.save, watcher)
      fails("save: path contains a zero byte", watcher.save, watcher, "a\0b")
      fails("save: /nowhere/at.all: ", watcher.save, watcher, "/nowhere/at.all")
      fails("print: the number of rows must be a number, got table", watcher.print, watcher, {})
      fails("graph: a function is needed, got nil", watcher.graph, watcher)
      watcher:close()
      watcher:close()
      fp8.watch(model):close()
    end)
  end)

  if device == "cpu" then return end

  describe("A watched graph", function()
    it("records what the same steps record without a graph", function()
      local function run(with_graph)
        local step, feed, model = training()
        local watcher = fp8.watch(model, {every = 4, blocks = true})
        local work, losses = with_graph and watcher:graph(step) or step, {}
        for i = 1, 13 do
          feed(i)
          losses[i] = work():item()
          watcher:step()
        end
        local rows = watcher:rows()
        watcher:close()
        return losses, rows
      end
      local losses, rows = run(false)
      local graph_losses, graph_rows = run(true)
      for i = 1, #losses do assert.is_true(math.abs(losses[i] - graph_losses[i]) < 1e-4 * losses[i]) end
      assert.equal(27, #graph_rows)
      for i, row in ipairs(rows) do
        local other = graph_rows[i]
        assert.equal(row.step, other.step)
        assert.equal(row.layer .. row.tensor, other.layer .. other.tensor)
        for _, name in ipairs {"count", "nonfinite"} do assert.equal(row[name], other[name]) end
        assert.is_true(math.abs(row.rms - other.rms) <= 1e-3 * row.rms)
        if row.format then assert.is_true(math.abs(row.snr - other.snr) < 0.2) end
        assert.equal(row.blocks, other.blocks)
        assert.is_true(not row.format or row.blocks > 0)
        for k, exponent in ipairs(row.exponents or {}) do
          assert.is_true(math.abs(exponent - other.exponents[k]) < 0.01)
        end
      end
    end)
  end)
end)

-- Graphs: replayed work gives what the same work gives without a graph, on CUDA devices.
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails

describe("A graph", function()
  it("needs a function, and a CUDA device", function()
    fails("graph: a function is needed, got nil", require("fp8.graph").capture, nil, "cpu")
    local called = false
    fails("there are no graphs on cpu", require("fp8.graph").capture, function() called = true end, "cpu")
    assert.is_false(called)
  end)
end)

if #support.devices < 2 then
  describe("Graphs", function() pending "need a CUDA device" end)
  return
end

local on = {device = "cuda"}

local function collected_memory() return support.in_use "cuda" end

local layers = {
  Linear = function() return fp8.Linear(48, 32, on) end,
  LinearMixed = function() return fp8.LinearMixed(48, 32, on) end,
  LinearGlobal = function() return fp8.LinearGlobal(48, 32, on) end,
  ["LinearMixed, native"] = function() return fp8.LinearMixed(48, 32, {device = "cuda", native = true}) end,
  ["LinearGlobal, native"] = function() return fp8.LinearGlobal(48, 32, {device = "cuda", native = true}) end,
}

local optimizers = {
  ["AdamW"] = function(model) return fp8.optim.AdamW(model, {lr = 0.05}) end,
  ["Adam"] = function(model) return fp8.optim.Adam(model, {lr = 0.05, weight_decay = 0.1}) end,
  ["Lion"] = function(model) return fp8.optim.Lion(model, {lr = 0.01}) end,
  ["Muon"] = function(model)
    return fp8.optim.Muon {{params = {model.weight}, lr = 0.02}, {params = {model.bias}, use_muon = false, lr = 0.05}}
  end,
  ["SGD"] = function(model) return fp8.optim.SGD(model, {lr = 0.1}) end,
  ["StableAdamW"] = function(model) return fp8.optim.StableAdamW(model, {lr = 0.05}) end,
  ["AdamW with groups"] = function(model)
    return fp8.optim.AdamW({{parameters = {model.weight}}, {parameters = {model.bias}, weight_decay = 0}}, {lr = 0.05})
  end,
  ["SGD with momentum"] = function(model) return fp8.optim.SGD(model, {lr = 0.1, momentum = 0.9, nesterov = true}) end,
}

local function batch(i)
  fp8.manual_seed(1000 + i)
  return fp8.randn(16, 48, on), fp8.randint(0, 32, {16}, {device = "cuda"})
end

local function training(make_layer, make_optimizer, dtype)
  fp8.manual_seed(7)
  local layer = make_layer()
  local optimizer = make_optimizer(layer)
  local x = fp8.zeros(16, 48, {device = "cuda", dtype = dtype})
  local target = fp8.zeros(16, {device = "cuda", dtype = "i64"})
  local function step()
    optimizer:zero_grad()
    local loss = fp8.cross_entropy(layer(x):relu(), target)
    loss:backward()
    optimizer:step()
    return loss, layer.weight.grad
  end
  local function feed(i)
    local new_x, new_target = batch(i)
    x:copy_(new_x)
    target:copy_(new_target)
  end
  return step, feed, layer, optimizer
end

local function compare(make_layer, make_optimizer, dtype)
  local eager_step, eager_feed, eager_layer, eager_optimizer = training(make_layer, make_optimizer, dtype)
  local f, feed, layer, optimizer = training(make_layer, make_optimizer, dtype)
  feed(1)
  local step = fp8.cuda.graph(f)
  eager_feed(1)
  eager_step()
  for i = 2, 8 do
    optimizer.lr = optimizer.lr * (i % 3 == 0 and 0.5 or 1.1)
    eager_optimizer.lr = optimizer.lr
    feed(i)
    eager_feed(i)
    local loss, grad = step()
    local eager_loss, eager_grad = eager_step()
    local tolerance = dtype == "bf16" and 2e-2 or 1e-4
    support.close(loss:detach(), eager_loss:detach(), tolerance)
    support.close(grad, eager_grad, tolerance)
    assert.equal(grad, layer.weight.grad)
    assert.equal(eager_optimizer.state[1].steps, optimizer.state[1].steps)
    support.close(layer.weight:detach(), eager_layer.weight:detach(), tolerance)
    support.close(layer.bias:detach(), eager_layer.bias:detach(), tolerance)
  end
  -- Eager steps go on from where the graph has left off, and the graph from there.
  f()
  eager_step()
  step()
  eager_step()
  support.close(layer.weight:detach(), eager_layer.weight:detach(), dtype == "bf16" and 2e-2 or 1e-4)
end

describe("A captured training step equals the eager one", function()
  for name, make_layer in support.sorted_pairs(layers) do
    it("with " .. name, function() compare(make_layer, optimizers.AdamW, "f32") end)
    it("with " .. name .. ", bf16 input", function() compare(make_layer, optimizers.AdamW, "bf16") end)
  end
  for name, make_optimizer in support.sorted_pairs(optimizers) do
    it("with " .. name, function() compare(layers.LinearMixed, make_optimizer, "f32") end)
  end
end)

describe("A captured step", function()
  --- A step of bf16 parameters with clipped gradients, and what it works on.
  local function clipped(name)
    fp8.manual_seed(8)
    local layer = fp8.Linear(48, 32, {device = "cuda", dtype = "bf16"})
    local optimizer = fp8.optim[name](layer, {lr = 0.05, master_weights = true})
    local x, target = fp8.randn(16, 48, {device = "cuda", dtype = "bf16"}), fp8.randint(0, 32, {16}, on)
    return function()
      optimizer:zero_grad()
      fp8.cross_entropy(layer(x), target):backward()
      local norm = fp8.optim.clip_grad_norm(layer, 0.5)
      optimizer:step()
      return norm
    end, layer, optimizer
  end

  for _, name in ipairs {"SGD", "Adam", "AdamW", "Lion", "StableAdamW"} do
    it("clips gradients, updates masters and follows a schedule: " .. name, function()
      local rate = fp8.optim.cosine_schedule {lr = 0.05, warmup = 3, steps = 9}
      local eager, eager_layer, eager_optimizer = clipped(name)
      local f, layer, optimizer = clipped(name)
      optimizer.lr, eager_optimizer.lr = rate(1), rate(1)
      local step = fp8.cuda.graph(f)
      eager()
      for i = 2, 10 do
        optimizer.lr, eager_optimizer.lr = rate(i), rate(i)
        local norm, expected = step(), eager()
        assert.is_true(norm:item() > 0)
        support.close(norm, expected, 1e-3)
        support.close(layer.weight.grad, eager_layer.weight.grad, 1e-2)
      end
      for i = 1, 2 do
        support.close(optimizer.state[i].master, eager_optimizer.state[i].master, 1e-3)
        support.equal(optimizer.parameters[i]:detach(), optimizer.state[i].master:to "bf16")
        assert.equal(10, optimizer.state[i].steps)
      end
    end)
  end

  it("takes over what changed a parameter between replays", function()
    local f, layer, optimizer = clipped "AdamW"
    local step = fp8.cuda.graph(f)
    step()
    fp8.no_grad(function() layer.weight:fill_(3) end)
    step()
    assert.is_true(layer.weight:detach():min():item() > 2.5)
    assert.is_true(optimizer.state[2].master:min():item() > 2.5)
    local state = optimizer:state_dict()
    for key, tensor in pairs(state) do state[key] = tensor:clone() end
    local weight = layer.weight:detach():clone()
    step()
    local expected = layer.weight:detach():clone()
    optimizer:load_state_dict(state)
    fp8.no_grad(function() layer.weight:copy_(weight) end)
    layer.bias:detach():copy_(state["1.master"])
    step()
    support.equal(layer.weight:detach(), expected)
  end)

  it("refuses to go on with parameters that their module has replaced", function()
    local f, layer = clipped "AdamW"
    local step = fp8.cuda.graph(f)
    layer:to "f32"
    fails("graph: a parameter was replaced when its module was converted or moved since the graph was captured", step)
  end)

  it("refuses wrong settings before anything changes", function()
    local f, layer, optimizer = clipped "AdamW"
    local step = fp8.cuda.graph(f)
    local before = layer.weight:detach():clone()
    optimizer.lr = -1
    fails("AdamW: option lr must be", step)
    assert.equal(1, optimizer.state[1].steps)
    support.equal(layer.weight:detach(), before)
    optimizer.lr = 0.05
    step()
    assert.is_true(support.error(layer.weight:detach(), before) > 0)
  end)
end)

describe("A graph", function()
  it("reads its inputs at every replay, and gives the same output tensors", function()
    local x = fp8.arange(4, {device = "cuda", dtype = "f32"})
    local graph = fp8.cuda.graph(function() return x * 2, x + 1 end)
    local a, b = graph()
    assert.same({0, 2, 4, 6}, a:totable())
    assert.same({1, 2, 3, 4}, b:totable())
    x:fill_(5)
    local again = graph()
    assert.equal(a, again)
    assert.equal(a, graph.outputs[1])
    assert.same({10, 10, 10, 10}, a:totable())
  end)

  it("takes new weights in evaluation, and leaves eager evaluation right", function()
    for _, make_layer in support.sorted_pairs(layers) do
      local layer = make_layer()
      local x = fp8.randn(16, 48, on)
      local graph = fp8.cuda.graph(function() return fp8.no_grad(layer.forward, layer, x) end)
      support.close(layer(x):detach(), graph(), 1e-5)
      fp8.no_grad(function() layer.weight:mul_(-0.5) end)
      support.close(graph(), layer(x):detach(), 1e-5)
      -- Captured, but never run: an eager call must not take what the capture would have computed.
      fp8.no_grad(function() layer.weight:mul_(3) end)
      local unused = fp8.cuda.graph(function() return fp8.no_grad(layer.forward, layer, x) end)
      local fresh = make_layer()
      fresh:load_state_dict(layer:state_dict())
      support.close(layer(x):detach(), fresh(x):detach(), 1e-5)
      assert.is_truthy(unused)
    end
  end)

  it("keeps what it uses: memory freed outside is not overwritten under it", function()
    local x = fp8.ones(1000, on)
    local graph = fp8.cuda.graph(function()
      local sum = x
      for _ = 1, 20 do sum = sum + x end
      return sum
    end)
    x = nil -- luacheck: ignore
    collectgarbage()
    collectgarbage()
    local others = {}
    for i = 1, 100 do others[i] = fp8.full({1000}, i, on) end
    local y = graph()
    assert.equal(21000, y:sum():item())
    for i = 1, 100 do assert.equal(1000 * i, others[i]:sum():item()) end
    -- A tensor that outlives its graph keeps its memory.
    graph = nil -- luacheck: ignore
    collectgarbage()
    collectgarbage()
    for i = 1, 100 do others[i] = fp8.full({1000}, -i, on) end
    assert.equal(21000, y:sum():item())
  end)

  it("gives its memory back", function()
    local x = fp8.ones(1000, 1000, on)
    local before = collected_memory()
    local graph = fp8.cuda.graph(function() return (x * 2 + x):sum() end)
    assert.equal(3e6, graph():item())
    assert.is_true(collected_memory() >= before + 4e6)
    graph = nil -- luacheck: ignore
    assert.equal(before, collected_memory())
  end)

  it("takes little more memory than is needed at once, without a call of the collector", function()
    local x = fp8.ones(2 ^ 22, on)
    local before = collected_memory()
    local graph = fp8.cuda.graph(function()
      local y = x
      for _ = 1, 60 do y = y + x end
      return y:sum()
    end)
    local taken = (collected_memory() - before) / 2 ^ 24
    assert.equal(61 * 2 ^ 22, graph():item())
    -- Of 60; fewer where the collector has less to do than here.
    assert.is_true(taken <= 30, ("%.2f tensors"):format(taken))
  end)

  it("cuts what a large tensor had for small ones, and puts it together again", function()
    local x = fp8.ones(2 ^ 22, on)
    local before = collected_memory()
    local graph = fp8.cuda.graph(function()
      local sum = fp8.zeros(1, on)
      for _ = 1, 4 do
        local large = fp8.cat({x, x, x, x}, 1)
        sum = sum + large:narrow(1, 1, 10):sum()
        large = nil -- luacheck: ignore
        collectgarbage()
        local small = {}
        for i = 1, 4 do small[i] = x * i end
        for i = 1, 4 do sum = sum + small[i]:narrow(1, 1, 1) end
        small = nil -- luacheck: ignore
        collectgarbage()
      end
      return sum
    end)
    local taken = (collected_memory() - before) / 2 ^ 24
    assert.equal(4 * (10 + 1 + 2 + 3 + 4), graph():item())
    assert.equal(80, graph():item())
    assert.is_true(taken <= 4.5, ("%.2f tensors"):format(taken))
  end)

  it("uses its memory again within itself", function()
    local x = fp8.ones(2 ^ 20, on)
    local before = collected_memory()
    local graph = fp8.cuda.graph(function()
      local y = x
      for _ = 1, 50 do
        y = y + x
        collectgarbage()
      end
      return y
    end)
    assert.is_true(collected_memory() - before <= 4 * 2 ^ 22)
    assert.equal(51 * 2 ^ 20, graph():sum():item())
  end)

  it("makes a derivative that is still to be taken notice a replay", function()
    local w = fp8.ones(3, {device = "cuda", requires_grad = true})
    local x = fp8.ones(3, on)
    local graph = fp8.cuda.graph(function()
      x:add_(1)
      return x * 2
    end)
    local y = graph()
    local through_input, through_output = (w * x):sum(), (w * y):sum()
    graph()
    fails("changed in place", function() through_input:backward() end)
    fails("changed in place", function() through_output:backward() end)
  end)

  it("works inside a scope, and can be made in one", function()
    local x = fp8.ones(10, on)
    local graph = fp8.scope(function()
      local y = fp8.full({10}, 3, on)
      return fp8.cuda.graph(function() return fp8.scope(function() return (x + y) * y end) end)
    end)
    assert.equal(12, fp8.scope(function() return graph() end)[1]:item())
  end)

  it("can hold nothing", function()
    local graph = fp8.cuda.graph(function() return 7 end)
    assert.equal(7, graph())
  end)

  it("uses a map of its own for as long as it lives", function()
    local x = fp8.randn(64, on)
    local map = fp8.create_map(true, 4, 3, 8)
    local function f() return (fp8.dequantize(fp8.quantize(x, map))) end
    local graph = fp8.cuda.graph(f)
    local expected = f()
    for i = 1, 80 do -- more than are cached
      local values = {}
      for k = 1, 256 do values[k] = (k - 128) / (i + 1) end
      fp8.quantize(x, fp8.tensor(values))
    end
    local others = {}
    for i = 1, 200 do others[i] = fp8.full({1536}, i, on) end
    support.equal(graph(), expected)
    assert.equal(200, #others)
  end)
end)

describe("What can't be captured", function()
  local x = fp8.ones(4, on)
  -- Not `return x:item()`: a tail call has no line.
  local cases = {
    {"item", function() local _ = x:sum():item() end, "item: a copy to the CPU can't be captured"},
    {"totable", function() local _ = x:totable() end, "totable: a copy to the CPU can't be captured"},
    {"printing", function() local _ = tostring(x) end, "a copy to the CPU can't be captured"},
    {"moves to the CPU", function() local _ = x:to "cpu" end, "a copy to the CPU can't be captured"},
    {"moves from it", function() local _ = fp8.tensor({1}, on) end, "tensor: a copy from the CPU can't be captured"},
    {"synchronize", function() fp8.cuda.synchronize(0) end, "synchronize: waiting for the device can't be captured"},
    {"events", function() fp8.cuda.event():record() end, "event_record: recording an event can't be captured"},
    {"random numbers", function() local _ = fp8.randn(3, on) end, "randn: random numbers can't be captured"},
    {"another graph", function() local _ = fp8.cuda.graph(print) end, "a graph is being captured already"},
    {"an error of one's own", function() error "mine" end, "mine"},
  }

  for _, case in ipairs(cases) do
    local name, f, message = unpack(case)
    it("raises an error at its line, and leaves all usable: " .. name, function()
      local line = debug.getinfo(f, "S").linedefined
      local before = collected_memory()
      local parameter = fp8.ones(4, {device = "cuda", requires_grad = true})
      local runs = 0
      local function captured()
        runs = runs + 1
        parameter.grad = nil;
        (parameter * x):sum():backward()
        if runs == 2 then f() end
      end
      local ok, found = pcall(fp8.cuda.graph, captured)
      assert.is_false(ok)
      assert.is_truthy(found:find(message, 1, true), found)
      local found_line = tonumber(found:match "graph_spec.lua:(%d+)")
      assert.is_true(found_line >= line and found_line <= line + 2, found)
      assert.equal(2, runs)
      assert.is_nil(parameter.grad)
      captured, parameter = nil, nil -- luacheck: ignore
      assert.equal(before, collected_memory())
      assert.same({2, 2, 2, 2}, (x + x):totable())
      assert.equal(8, fp8.cuda.graph(function() return (x * 2):sum() end)():item())
    end)
  end

  it("includes stochastic rounding", function()
    local layer = fp8.LinearMixed(4, 4, {device = "cuda", rounding = "stochastic"})
    fails("random numbers can't be captured", fp8.cuda.graph, function() return layer(x:view(1, 4)) end)
    assert.same({2, 2, 2, 2}, (x + x):totable())
  end)
end)

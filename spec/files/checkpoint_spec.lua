-- fp8.checkpoint: a run that goes on from a file goes on as if it had not stopped, and no wrong file changes anything.
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails

local function build(device, width, dtype)
  local on = {device = device, dtype = dtype}
  local model = fp8.nn.Sequential(fp8.LinearMixed(8, width or 16, on), fp8.nn.GELU(),
    fp8.LinearGlobal(width or 16, 4, {device = device, dtype = dtype, rounding = "stochastic"}))
  return model, fp8.optim.AdamW(model, {lr = 1 / 3 * 0.1})
end

-- Trains on random batches, which come from the global generator, and returns the losses.
local function train(model, optimizer, steps, device)
  local losses = {}
  for i = 1, steps do
    optimizer:zero_grad()
    local x, target = fp8.randn(16, 8, {device = device}), fp8.randint(0, 4, {16}, {device = device})
    local loss = fp8.cross_entropy(model(x), target)
    loss:backward()
    optimizer:step()
    optimizer.lr = optimizer.lr * 0.97
    losses[i] = loss:item()
  end
  return losses
end

local function texts(state)
  local list = {}
  for name, tensor in pairs(state) do list[#list + 1] = name .. ": " .. table.concat(support.flat(tensor), " ") end
  table.sort(list)
  return list
end

support.each_device(function(device)
  describe("fp8.checkpoint", function()
    local path

    before_each(function()
      path = os.tmpname()
      fp8.manual_seed(5)
    end)
    after_each(function() os.remove(path) end)

    it("gives an interrupted run the losses of an uninterrupted one", function()
      local model, optimizer = build(device)
      train(model, optimizer, 5, device)
      fp8.checkpoint.save(path, {model = model, optimizer = optimizer, step = 5})
      local expected = train(model, optimizer, 5, device)
      fp8.manual_seed(77)
      local other, other_optimizer = build(device)
      train(other, other_optimizer, 2, device)
      local found = fp8.checkpoint.load(path, {model = other, optimizer = other_optimizer})
      assert.same({step = 5, extra = {}}, found)
      assert.same(expected, train(other, other_optimizer, 5, device))
      assert.same(texts(model:state_dict()), texts(other:state_dict()))
      assert.equal(optimizer.lr, other_optimizer.lr)
    end)

    it("keeps plain values to the last bit", function()
      local model = build(device)
      local extra = {
        best = 0.1 + 0.2, tiny = 5e-324, big = -1.7976931348623157e308, count = 2 ^ 53,
        name = 'naïve "text"\n', yes = true,
        list = {1 / 3, {deep = {false}}, "x"}, empty = {},
      }
      fp8.checkpoint.save(path, {model = model, step = 2 ^ 40, extra = extra})
      local found = fp8.checkpoint.load(path, {model = model})
      assert.same({step = 2 ^ 40, extra = extra}, found)
    end)

    it("keeps every seed that fp8.manual_seed takes", function()
      local model = build(device)
      for _, seed in ipairs {0, 1, -1, 2 ^ 31, 2 ^ 53 - 1, -2 ^ 53 + 1, 2 ^ 53, -2 ^ 53} do
        for _, position in ipairs {0, 1, 2 ^ 52 + 1, 2 ^ 53 - 2} do
          fp8.manual_seed(seed, position)
          fp8.rand(3, {device = device})
          fp8.checkpoint.save(path, {model = model})
          local expected = fp8.randint(0, 2 ^ 40, {9}, {device = device}):totable()
          fp8.manual_seed(3)
          fp8.checkpoint.load(path, {model = model})
          assert.same({seed, position + 1}, {fp8.random_state()})
          assert.same(expected, fp8.randint(0, 2 ^ 40, {9}, {device = device}):totable())
        end
      end
      for _, seed in ipairs {2 ^ 53 + 2, -2 ^ 60, 1e300, 0.5} do fails("manual_seed", fp8.manual_seed, seed) end
    end)

    it("says so where the random numbers are too far on to be kept", function()
      local model = build(device)
      fp8.checkpoint.save(path, {model = model})
      fp8.manual_seed(1, 2 ^ 53 - 1)
      fp8.rand(1, {device = device})
      fails("past position 2^53", fp8.checkpoint.save, path, {model = model})
      fp8.checkpoint.load(path, {model = model})
    end)

    it("can leave the optimizer out, but not make one up", function()
      local model, optimizer = build(device)
      fp8.checkpoint.save(path, {model = model, optimizer = optimizer})
      assert.same({step = 0, extra = {}}, fp8.checkpoint.load(path, {model = build(device)}))
      fp8.checkpoint.save(path, {model = model})
      fails("has no optimizer", fp8.checkpoint.load, path, {model = model, optimizer = optimizer})
    end)

    it("has no parts but those that it knows", function()
      local model, optimizer = build(device)
      fails("checkpoint.save: unknown part optimiser", fp8.checkpoint.save, path,
        {model = model, optimiser = optimizer})
      fp8.checkpoint.save(path, {model = model, optimizer = optimizer})
      fails("checkpoint.load: unknown part optimzer", fp8.checkpoint.load, path,
        {model = model, optimzer = optimizer})
    end)

    it("refuses what belongs to another model or optimizer, names the tensor, and changes nothing", function()
      local model, optimizer = build(device)
      train(model, optimizer, 1, device)
      fp8.checkpoint.save(path, {model = model, optimizer = optimizer})
      local function refused(text, other, other_optimizer)
        local before, seed = texts(other:state_dict()), {fp8.random_state()}
        fails(text, fp8.checkpoint.load, path, {model = other, optimizer = other_optimizer})
        assert.same(before, texts(other:state_dict()))
        assert.same(seed, {fp8.random_state()})
      end
      refused("model.1.bias is f32 (16) there and f32 (24) here", build(device, 24))
      refused("model.1.bias is f32 (16) there and bf16 (16) here", build(device, nil, "bf16"))
      local on = {device = device}
      refused("it has model.3.bias, f32 (4), which is not here", fp8.nn.Sequential(fp8.Linear(8, 16, on)))
      refused("it has no model.4.bias, f32 (4) here", fp8.nn.Sequential(fp8.Linear(8, 16, on), fp8.nn.ReLU(),
        fp8.Linear(16, 4, on), fp8.Linear(4, 4, on)))
      local same = build(device)
      refused("of another optimizer: it has optimizer.", same, fp8.optim.SGD(same))
    end)

    it("refuses a file that is no checkpoint, or not all of one", function()
      local model, optimizer = build(device)
      local into = {model = model, optimizer = optimizer}
      fails("load: /nowhere/at/all", fp8.checkpoint.load, "/nowhere/at/all", into)
      fp8.save(path, model:state_dict())
      fails("is no checkpoint", fp8.checkpoint.load, path, into)
      fp8.checkpoint.save(path, into)
      local text = support.read_file(path)
      local before = texts(model:state_dict())
      for _, length in ipairs {0, 7, 8, 200, #text - 4000, #text - 1} do
        support.write_file(path, text:sub(1, length))
        fails(path, fp8.checkpoint.load, path, into)
      end
      for _, damaged in ipairs {'"random":"%[5', '"step":"0', '"extra":"{'} do
        local changed, count = text:gsub(damaged, function(found) return found:sub(1, -2) .. "x" end)
        assert.equal(1, count)
        support.write_file(path, changed)
        fails("can't be read", fp8.checkpoint.load, path, into)
      end
      assert.same(before, texts(model:state_dict()))
    end)

    it("refuses values in a file that it can't have written", function()
      local model = build(device)
      for _, value in ipairs {
        '{"a":null}', "[1,null,3]", '{"a":[{"b":1e999}]}', ("["):rep(17) .. ("]"):rep(17), "null", "1", '"x"',
      } do
        fp8.save(path, {}, {kind = "fp8 checkpoint 1", step = "0", random = "[1,0]", extra = value})
        fails("its extra can't be read", fp8.checkpoint.load, path, {model = model})
        fp8.save(path, {}, {kind = "fp8 checkpoint 1", step = "0", random = value, extra = "{}"})
        fails("can't be read", fp8.checkpoint.load, path, {model = model})
      end
    end)

    it("refuses values that it can't keep, and leaves the file that was there", function()
      local model = build(device)
      fp8.checkpoint.save(path, {model = model})
      local before = support.read_file(path)
      local itself = {}
      itself.itself = itself
      for text, extra in support.sorted_pairs {
        ["extra: nan is not a finite number"] = {x = 0 / 0}, ["inf"] = {math.huge}, ["a function"] = {print},
        ["names and numbers"] = {1, x = 2}, ["the key 3"] = {[3] = 1}, ["contain themselves"] = itself,
        ["not UTF-8"] = {x = "\255"}, ["a userdata"] = {fp8.zeros(1)},
      } do
        fails(text, fp8.checkpoint.save, path, {model = model, extra = extra})
      end
      fails("step must be", fp8.checkpoint.save, path, {model = model, step = -1})
      fails("extra must be", fp8.checkpoint.save, path, {model = model, extra = 3})
      fails("model must be a module", fp8.checkpoint.save, path, {})
      fails("optimizer must be", fp8.checkpoint.save, path, {model = model, optimizer = {}})
      fails("path must be", fp8.checkpoint.save, nil, {model = model})
      fails("checkpoint.save: path contains a zero byte", fp8.checkpoint.save, path .. "\0x", {model = model})
      fails("checkpoint.load: path contains a zero byte", fp8.checkpoint.load, path .. "\0", {model = model})
      fails("the parts must be", fp8.checkpoint.load, path)
      assert.equal(before, support.read_file(path))
    end)
  end)
end)

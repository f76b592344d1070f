-- fp8.watch over steps that differ: other recipes, other batch sizes.
local fp8 = require "fp8"
local support = require "spec.support"

local recipes = {"global_native", "mixed", "mx", false}

-- Whether the rows of each step are those of its recipe: `used` is a list by step of names in `recipes`.
local function assert_recipes(used, rows)
  local weights = 0
  for _, row in ipairs(rows) do
    local recipe = fp8.recipes[used[row.step]]
    if row.tensor == "weight" then
      weights = weights + 1
      local expected = recipe and fp8.analyze(fp8.ones(2, 32), {formats = {recipe.weight}})[1] or {}
      assert.equal(expected.format, row.format)
      assert.equal(expected.scale, row.scale)
    end
  end
  assert.equal(#used, weights)
end

support.each_device(function(device)
  local on = {device = device}

  describe("A watcher of steps that differ", function()
    it("names the format and scale of each step's own recipe, and saves its figures after any", function()
      local model = fp8.nn.Sequential(fp8.Linear(32, 16, {device = device, recipe = recipes[1]}))
      local watcher = fp8.watch(model, {every = 1})
      local x, used = fp8.randn(64, 32, on), {}
      for step = 1, 70 do -- 64 of them are fetched on the way
        used[step] = recipes[step == 70 and 4 or step % 3 + 1]
        fp8.convert(model, used[step])
        model(x):sum():backward()
        watcher:step()
        if step == 3 then assert_recipes(used, watcher:rows()) end
      end
      assert_recipes(used, watcher:rows())
      assert.is_truthy(tostring(watcher):find("\n +1 +weight +%- +%- "))
      local path = os.tmpname()
      watcher:save(path)
      local quantized, plain = 0, 0
      for line in support.read_file(path):gmatch "[^\n]+" do
        if line:find "^%d+,1,weight,e4m3[_map]*,[%w_]+,512,.+,%d[^,]*,0,0,[%d.e-]+$" then quantized = quantized + 1 end
        if line:find "^70,1,weight,,,512,.+,,,,$" then plain = plain + 1 end
      end
      os.remove(path)
      assert.equal(69, quantized)
      assert.equal(1, plain)
      watcher:close()
      assert_recipes(used, watcher:rows())
    end)

    it("says where the first NaN was in the batch that had it", function()
      for _, more in ipairs {0, 1, 5} do
        local model = fp8.nn.Sequential(fp8.Linear(32, 16, on))
        local watcher = fp8.watch(model, {every = 1})
        local x = fp8.randn(64, 32, on)
        model(x)
        watcher:step()
        x[64]:narrow(1, 32, 1):fill_(0 / 0)
        model(x)
        watcher:step()
        for _ = 1, more do
          model(fp8.randn(10, 32, on))
          watcher:step()
        end
        assert.equal("step 2: 1: input has 1 non-finite value, first at (64, 32) of shape (64, 32)",
          tostring(watcher:first_bad()))
        watcher:close()
      end
    end)

    it("keeps one list for all steps that are alike", function()
      local model = fp8.nn.Sequential(fp8.Linear(32, 16, on), fp8.nn.ReLU(), fp8.LinearMixed(16, 16, on))
      model[4] = model[3] -- the last call counts
      local watcher = fp8.watch(model, {every = 1})
      local large, small = fp8.randn(64, 32, on), fp8.randn(10, 32, on)
      for step = 1, 6 do
        if step == 6 then fp8.no_grad(function() model(large) end) end -- an evaluation
        model(step == 4 and small or large):sum():backward()
        watcher:step()
      end
      local held = watcher.held
      assert.equal(held[1].records, held[3].records)
      assert.not_equal(held[3].records, held[4].records)
      assert.equal(held[5].records, held[6].records)
      watcher:close()
    end)

    it("records a backward pass as its forward pass was, though the layer was converted in between", function()
      local model = fp8.nn.Sequential(fp8.Linear(32, 16, {device = device, recipe = "mx"}))
      local watcher = fp8.watch(model, {every = 1, recipe = "global"})
      local loss = model(fp8.randn(64, 32, {device = device, requires_grad = true})):sum()
      fp8.convert(model, false)
      loss:backward()
      watcher:step()
      local scales = {}
      for _, row in ipairs(watcher:rows()) do scales[row.tensor] = row.scale end
      for i, name in ipairs {"grad_output", "grad_output for dW"} do
        local recipe = fp8.recipes.mx
        local operand = i == 1 and recipe.grad_output or recipe.weight_grad.grad_output
        assert.equal(fp8.analyze(fp8.ones(2, 32), {formats = {operand}})[1].scale, scales[name])
      end
      watcher:close()
    end)

    it("is the same within fp8.scope", function()
      local model = fp8.nn.Sequential(fp8.Linear(32, 16, on))
      local watcher = fp8.watch(model, {every = 1})
      local used = {"mixed", "mx", "global_native"}
      for step = 1, 3 do
        fp8.convert(model, used[step])
        fp8.scope(function()
          model(fp8.randn(8 * step, 32, on)):sum():backward()
          watcher:step()
        end)
      end
      assert_recipes(used, watcher:rows())
      watcher:close()
    end)
  end)

  if device == "cpu" then return end

  describe("A watched graph among other steps", function()
    it("has its rows named as it was captured", function()
      local model = fp8.nn.Sequential(fp8.Linear(32, 16, {device = device, recipe = "global_native"}))
      local watcher = fp8.watch(model, {every = 1})
      local optimizer = fp8.optim.SGD(model, {lr = 0.1})
      local large, small = fp8.randn(64, 32, on), fp8.randn(10, 32, on)
      local function step(x)
        optimizer:zero_grad()
        model(x):sum():backward()
        optimizer:step()
      end
      local graph = watcher:graph(function() step(large) end)
      for i = 1, 4 do
        if i == 3 then large[64]:narrow(1, 32, 1):fill_(0 / 0) end
        if i % 2 == 1 then graph() else step(small) end
        watcher:step()
        if i == 1 then fp8.convert(model, "mx") end -- the graph stays what it is
      end
      assert_recipes({"global_native", "mx", "global_native", "mx"}, watcher:rows())
      assert.equal("step 3: 1: input has 1 non-finite value, first at (64, 32) of shape (64, 32)",
        tostring(watcher:first_bad()))
      watcher:close()
    end)
  end)
end)

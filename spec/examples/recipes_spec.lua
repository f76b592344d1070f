-- examples/recipes.lua on a small text: the table at its end. And recipes by name and by step in what examples share.
local fp8 = require "fp8"
local support = require "spec.support"

local root = support.path ""
local tiny = ("--text %sREADME.md --layers 1 --width 32 --heads 2 --context 32 --batch 8 "):format(root)

local function run(example, options)
  return support.run(("%sexamples/%s.lua %s%s"):format(root, example, tiny, options), "FP8_TUNE=0")
end

-- The lines of a log: losses by step.
local function losses_of(path)
  local losses = {}
  for step, loss in support.read_file(path):gmatch "\n[%w_]+,%d+,(%d+),([^,]+)" do losses[tonumber(step)] = loss end
  return losses
end

support.each_device(function(device)
  describe("examples/recipes.lua", function()
    local directory = support.temporary_directory(before_each, after_each)

    it("ends in a table and a picture", function()
      local path = directory .. "/log.csv"
      local ok, output = run("recipes",
        ("--device %s --steps 20 --seeds 2 --compare f32,mixed,e2m1_blocks_stochastic --csv %s"):format(device, path))
      assert.is_true(ok, output)
      local rows = {}
      for name, loss, gap, memory, worst in output:gmatch
        "\n([%w_]+) +(%d%.%d+) ± %d%.%d+ +([+-]%d%.%d+) ± %d%.%d+ +%d[%d.]* ± %d[%d.]* +(%d+) ± %d+  ([^\n]+)" do
        rows[name] = {loss = tonumber(loss), gap = tonumber(gap), memory = tonumber(memory), worst = worst}
      end
      assert.equal(0, rows.f32.gap)
      assert.equal("-", rows.f32.worst)
      assert.is_true(rows.f32.memory >= 1)
      for _, name in ipairs {"mixed", "e2m1_blocks_stochastic"} do
        local row = rows[name]
        assert.is_true(math.abs(row.loss - rows.f32.loss - row.gap) < 2e-4, output)
        assert.is_truthy(row.worst:find "^blocks%.1%.%S+, gradient off by 0%.%d+$", row.worst)
      end
      local means, counts = {}, {}
      for name, loss in support.read_file(path):gmatch "\n([%w_]+),%d,20,[^\n]*,([^,\n]+)" do
        means[name], counts[name] = (means[name] or 0) + tonumber(loss) / 2, (counts[name] or 0) + 1
      end
      for name, row in pairs(rows) do
        assert.equal(2, counts[name])
        assert.is_true(math.abs(means[name] - row.loss) < 1e-4, output)
      end
      assert.is_truthy(output:find("\n +nats a byte more than f32\n"), output)
    end)

    it("compares the recipes of the day, and names those that fp8 lacks", function()
      local ok, output = run("recipes", ("--device %s --steps 2"):format(device))
      assert.is_true(ok, output)
      for _, name in ipairs {
        "bf16", "mixed", "global", "mxfp8", "nvfp4", "nvfp4_without_hadamard", "nvfp4_without_stochastic",
        "nvfp4_nearest", "mxfp4", "quartet", "int8_tensorwise",
      } do
        local row = output:find("\n" .. name .. " +%d%.%d+ +[+-]%d")
        local lacks = output:find(name .. " is not among fp8.recipes, and is left out", 1, true)
        assert.is_true((row ~= nil) ~= (lacks ~= nil), name .. output)
      end
    end)

    it("does the last steps in full precision where asked", function()
      local logs = {}
      for name, options in pairs {
        plain = "--compare f32", whole = "--compare e2m1_tensor", part = "--compare e2m1_tensor --full-for 0.4",
      } do
        local path = ("%s/%s.csv"):format(directory, name)
        local ok, output = run("recipes",
          ("--device %s --dtype f32 --steps 10 %s --csv %s"):format(device, options, path))
        assert.is_true(ok, output)
        logs[name] = losses_of(path)
      end
      for step = 1, 10 do
        assert.equal(step <= 6, logs.part[step] == logs.whole[step], "step " .. step)
        assert.not_equal(logs.plain[step], logs.part[step])
      end
    end)

    it("says in one line what is wrong", function()
      for options, words in support.sorted_pairs {
        ["--compare nothing"] = "there is no precision 'nothing'; known are", ["--full-for 1"] = "from 0 to below 1",
        ["--full-for"] = "needs a value",
      } do
        local ok, output = run("recipes", options)
        assert.is_false(ok)
        assert.is_truthy(output:find "recipes: ", output)
        assert.is_truthy(output:find(words, 1, true), output)
      end
    end)
  end)

  describe("Recipes by name in the examples", function()
    local directory = support.temporary_directory(before_each, after_each)

    it("change at their step, and a run goes on from a checkpoint on either side of it", function()
      local recipes, whole, log = directory .. "/recipes.lua", directory .. "/whole.csv", directory .. "/log.csv"
      support.write_file(recipes, [[return {
        mine = {default = "delayed", head = false, ["*.fc1"] = "mx", until_step = 5, after = {default = "global"}},
      }]])
      local options = ("--device %s --sample 0 --steps 9 --compare mine --recipes %s "):format(device, recipes)
      assert.is_true(run("gpt", options .. "--csv " .. whole))
      local losses = losses_of(whole)
      assert.equal(9, #losses)
      -- The same program, which ends once it has written a checkpoint.
      local stopping = directory .. "/stopping.lua"
      support.write_file(stopping, ([[
        local fp8 = require "fp8"
        local save = fp8.checkpoint.save
        function fp8.checkpoint.save(...)
          save(...)
          os.exit(0)
        end
        arg[0] = "%sexamples/gpt.lua"
        dofile(arg[0])
      ]]):format(root))
      for stop = 4, 6 do
        local path = ("%s/run-%d.safetensors"):format(directory, stop)
        os.remove(log)
        local resumed = ("%s --checkpoint %s --checkpoint-every %d --csv %s"):format(options, path, stop, log)
        assert.is_true(support.run(("%s %s%s"):format(stopping, tiny, resumed), "FP8_TUNE=0"))
        assert.equal(stop, fp8.checkpoint.read(path).step)
        assert.is_nil(losses_of(log)[stop + 1])
        local ok, output = run("gpt", resumed)
        assert.is_true(ok, output)
        assert.is_truthy(output:find("goes on from step " .. stop, 1, true), output)
        assert.same(losses, losses_of(log))
        local found = fp8.checkpoint.read(path)
        assert.equal(9, found.step)
        assert.equal("mx", found.recipes["*.fc1"])
        assert.equal(5, found.recipes.until_step)
      end
    end)

    it("show what is wrong with them before any run", function()
      local recipes = directory .. "/recipes.lua"
      support.write_file(recipes, 'return {mine = {default = "mx", ["block.*"] = false}}')
      local ok, output = run("gpt", ("--device %s --steps 2 --compare f32,mine --recipes %s"):format(device, recipes))
      assert.is_false(ok)
      assert.is_truthy(output:find(
        "gpt: the recipe mine: no layer is called block.*; did you mean blocks.*?\n", 1, true), output)
    end)
  end)
end)

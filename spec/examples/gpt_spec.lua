-- examples/gpt.lua on a small text: logs, checkpoints, what it says when something is wrong.
local fp8 = require "fp8"
local support = require "spec.support"

local root = support.path ""
local tiny = "examples/gpt.lua --text README.md --layers 1 --width 32 --heads 2 --context 32 --batch 8 --sample 20 "

local function run(options)
  -- Timing must not choose the algorithms of products where runs are compared.
  return support.run(root .. tiny:gsub("README", root .. "README") .. options, "FP8_TUNE=0")
end

-- The columns of a log by run: losses["mixed,1"][step], and the others.
local function read_log(path)
  local runs = {}
  for line in support.read_file(path):gmatch "[^\n]+" do
    local name, step, loss, rest = line:match "^([%w_]+,%d+),(%d+),([^,]+),(.*)$"
    if name then
      runs[name] = runs[name] or {rest = {}}
      assert.is_nil(runs[name][tonumber(step)])
      runs[name][tonumber(step)], runs[name].rest[tonumber(step)] = loss, rest
    end
  end
  return runs
end

support.each_device(function(device)
  describe("examples/gpt.lua", function()
    local directory = support.temporary_directory(before_each, after_each)

    local function on_device(options) return run(("--device %s %s"):format(device, options)) end

    it("learns, logs, and goes on from a checkpoint as if it had not stopped", function()
      local log, other = directory .. "/log.csv", directory .. "/other.csv"
      local options = "--lr 0.01 --warmup 5 --steps 60 --compare f32,mixed --seeds 2 --evaluate-every 20 --csv "
      local ok, output = on_device(options .. log)
      assert.is_true(ok, output)
      assert.is_truthy(output:find("\nf32 +%d%.%d+ ± %d%.%d+ "), output)
      local whole = read_log(log)
      for _, name in ipairs {"f32,1", "f32,2", "mixed,1", "mixed,2"} do
        local losses = whole[name]
        assert.equal(60, #losses)
        assert.is_true(tonumber(losses[1]) > 5.4 and tonumber(losses[60]) < 4, losses[60])
        for step = 1, 60 do
          local validation = losses.rest[step]:match "([^,]*)$"
          if step % 20 == 0 then
            assert.is_true(tonumber(validation) < 5, losses.rest[step])
          else
            assert.equal("", validation)
          end
        end
      end
      assert.not_equal(whole["f32,1"][60], whole["f32,2"][60])

      options = options .. other .. (" --checkpoint %s/run.safetensors --checkpoint-every 25"):format(directory)
      ok, output = on_device(options)
      assert.is_true(ok, output)
      -- Two runs are complete, two begin anew, in the same log.
      for _, name in ipairs {"mixed-1", "mixed-2"} do
        assert(os.remove(("%s/run-%s.safetensors"):format(directory, name)))
      end
      ok, output = on_device(options)
      assert.is_true(ok, output)
      assert.is_truthy(output:find("gpt f32 goes on from step 60 of " .. directory, 1, true), output)
      local again = read_log(other)
      for name, losses in support.sorted_pairs(whole) do
        for step = 1, 60 do assert.equal(losses[step], again[name][step]) end
      end
    end)

    it("refuses a checkpoint that is not of this run", function()
      local path = directory .. "/run.safetensors"
      local options = "--steps 4 --compare f32 --checkpoint " .. path
      assert.is_true(on_device(options))
      for changed, words in support.sorted_pairs {
        ["--steps 5"] = "is of a run with steps 4, not 5", ["--lr 0.5"] = "with lr",
        ["--warmup 1"] = "with warmup 0, not 1",
        ["--text " .. root .. "Makefile"] = ("with text of %d bytes"):format(#support.read_file(root .. "README.md")),
        ["--seed 2"] = "with seed 1, not 2",
        ["--width 16"] = "in_proj.bias is f32 (96) there and f32 (48) here",
        ["--compare bf16"] = "is of another model",
      } do
        local ok, output = on_device(options .. " " .. changed)
        assert.is_false(ok)
        assert.is_truthy(output:find(words, 1, true), output)
      end
      local copy = directory .. "/copy.md" -- the same text by another name
      support.write_file(copy, support.read_file(root .. "README.md"))
      assert.is_true(on_device(options .. " --text " .. copy))
      local text = support.read_file(path)
      support.write_file(path, text:sub(1, #text - 100))
      local ok, output = on_device(options)
      assert.is_false(ok)
      assert.is_truthy(output:find("truncated", 1, true), output)
    end)

    it("refuses the checkpoint of another recipe by the same name", function()
      local recipes, path = directory .. "/recipes.lua", directory .. "/run.safetensors"
      local options = ("--steps 2 --compare mine --recipes %s --checkpoint %s"):format(recipes, path)
      local function write(exponent, precision)
        support.write_file(recipes, ([[
          local fp8, mine = require "fp8", {}
          for name, value in pairs(fp8.recipes.global) do mine[name] = value end
          mine.weight = {format = fp8.create_map(true, %d, %d, 8), scale = "tensor"}
          return {mine = function() return mine end}
        ]]):format(exponent, precision))
      end
      write(4, 3)
      assert.is_true(on_device(options))
      assert.is_true(on_device(options))
      write(3, 4)
      local ok, output = on_device(options)
      assert.is_false(ok)
      assert.is_truthy(output:find "is of a run with recipe of CRC%-32 %x+, not of CRC%-32 %x+\n", output)
    end)

    it("stops where the loss is not finite, and says where that began", function()
      local ok, output = on_device "--lr 1e30 --clip 0 --steps 20 --compare f32"
      assert.is_false(ok)
      assert.is_truthy(output:find "gpt: f32, seed 1: step %d+: the loss is %-?%a+; first not finite, in step %d+: %g+",
        output)
    end)

    it("stops where the last step has made the parameters too large, and keeps the checkpoint before", function()
      local path, log = directory .. "/run.safetensors", directory .. "/log.csv"
      local options = ("--clip 0 --compare bf16 --layers 2 --checkpoint %s --checkpoint-every 1 --csv %s "):format(path,
        log)
      for _, steps in ipairs {1, 6} do
        local ok, output = on_device(options .. "--lr 1e30 --warmup 1 --steps " .. steps)
        assert.is_false(ok)
        assert.is_truthy(output:find "step 1: the loss is %-?%a+ after it; first not finite, after step 1: blocks%.1%.",
          output)
        assert.is_nil(io.open(path))
        assert.equal(1, #read_log(log)["bf16,1"])
      end
    end)

    it("finds what is not finite in parameters that the batch does not use", function()
      local path = directory .. "/run.safetensors"
      local options = "--steps 3 --compare bf16 --checkpoint " .. path
      assert.is_true(on_device(options))
      local tensors, metadata = fp8.load(path)
      tensors["model.tokens.weight"]:narrow(1, 256, 1):fill_(math.huge) -- no byte of UTF-8
      fp8.save(path, tensors, metadata)
      local ok, output = on_device(options)
      assert.is_false(ok)
      assert.is_truthy(output:find("step 3: a parameter is not finite after it; first not finite, after step 3: " ..
        "tokens: weight has 32 non-finite values", 1, true), output)
    end)

    it("takes the largest seeds, each with numbers of its own", function()
      local log = directory .. "/log.csv"
      local options = "--steps 2 --compare f32 --csv " .. log .. " --seed "
      local losses = {}
      for _, seed in ipairs {1, 2^29, 2^29 + 1, 2^31 - 1} do
        local ok, output = on_device(("%s%d"):format(options, seed))
        assert.is_true(ok, output)
        local loss = read_log(log)[("f32,%d"):format(seed)][2]
        assert.is_nil(losses[loss])
        losses[loss] = true
      end
    end)

    it("takes recipes of a file", function()
      local path = directory .. "/recipes.lua"
      support.write_file(path, [[
        local coarse = {format = require("fp8").create_map(true, 2, 5, 8), scale = "tensor"}
        return {coarse = {input = coarse, weight = coarse, grad_output = coarse, rounding = "stochastic"}}
      ]])
      local options = ("--steps 5 --compare coarse --recipes %s --checkpoint %s/run"):format(path, directory)
      local losses = {}
      for i = 1, 2 do -- the second time it is complete, and only evaluated
        local ok, output = on_device(options)
        assert.is_true(ok, output)
        losses[i] = output:match "\ncoarse +([%d.]+)"
      end
      assert.is_truthy(losses[1])
      if device == "cpu" then assert.equal(losses[1], losses[2]) end -- a GPU may take another algorithm for a product
    end)

    it("takes a recipe that chooses by the layer", function()
      local path = directory .. "/recipes.lua"
      support.write_file(path, [[
        local random = {rounding = "stochastic"}
        for name, value in pairs(require("fp8").recipes.global_native) do random[name] = random[name] or value end
        return {
          chosen = function(name) return name:find "fc1" and "mixed" or name:find "fc2" and random or nil end,
          broken = function(name) return name.weight.dtype end,
          number = function() return 3 end,
        }
      ]])
      local ok, output = on_device("--steps 5 --watch 2 --compare chosen --recipes " .. path)
      assert.is_true(ok, output)
      for _, row in ipairs {"fc1 +input +e4m3_map ", "fc2 +input +e4m3 ", "out_proj +input +%- "} do
        assert.is_truthy(output:find(row), output)
      end
      ok, output = on_device("--steps 5 --compare broken --recipes " .. path)
      assert.is_false(ok)
      assert.is_truthy(output:find("gpt: " .. path .. ":5: ", 1, true), output)
      ok, output = on_device("--steps 5 --compare bf16,number --recipes " .. path)
      assert.is_false(ok)
      assert.is_truthy(output:find("gpt: the recipe number: recipe must be a table", 1, true), output)
      assert.is_nil(output:find("step ", 1, true))
    end)
  end)
end)

describe("examples/gpt.lua", function()
  it("says what is wrong in one line", function()
    for options, words in support.sorted_pairs {
      ["--text /nowhere"] = "/nowhere", ["--context 5000"] = "a context of 5000 needs at least 50010",
      ["--compare half"] = "no precision 'half'", ["--width 33"] = "heads", ["--prompt"] = "needs a value",
      ["--text " .. root .. "spec"] = "spec", ["--warmup 9"] = "warmup", ["--prompt ''"] = "at least one byte",
      ["--watch-csv x"] = "--watch-csv needs --watch", ["--checkpoint-every 2"] = "needs --checkpoint",
    } do
      local ok, output = run("--device cpu --steps 3 --compare f32 " .. options)
      assert.is_false(ok)
      assert.is_truthy(output:find(words, 1, true), output)
      assert.is_truthy(output:find "gpt: [^\n]*\n$", output)
    end
  end)

  it("writes more than the stack holds, after a prompt that is longer", function()
    local prompt = ("prompt "):rep(2000)
    local ok, output = run(("--device cpu --steps 1 --compare f32 --layers 1 --width 2 --heads 1 --context 4 " ..
      "--sample 9000 --prompt '%s'"):format(prompt))
    assert.is_true(ok, output)
    local written = output:match("\n(" .. prompt .. ".-)\n\n\nprecision")
    assert.equal(#prompt + 9000, written and #written, output:sub(-300))
  end)

  it("reads every member of compressed text", function()
    local read_text = dofile(root .. "examples/lib/text.lua")
    local path, text = os.tmpname(), support.read_file(root .. "README.md")
    local command = "(gzip -c README.md; gzip </dev/null; gzip -c README.md; printf '\\0\\0')"
    os.execute(("cd %s && %s >%s"):format(root, command, path))
    local found = read_text(path, "cpu")
    assert.equal(text .. text, require("ffi").string(found:data(), #found))
    os.execute("echo more >>" .. path)
    support.fails("damaged or truncated", read_text, path, "cpu")
    os.remove(path)
  end)

  it("names the line of a recipe file where it goes wrong", function()
    support.with_file("local fp8 = require 'fp8'\nreturn fp8.recipe.mixed", function(path)
      local ok, output = run("--device cpu --compare mine --recipes " .. path)
      assert.is_false(ok)
      assert.is_truthy(output:find("gpt: " .. path .. ":2: ", 1, true), output)
    end)
  end)

  it("reads compressed text, and names the package that it would have read", function()
    local path = os.tmpname()
    os.execute(("gzip -c %sREADME.md >%s"):format(root, path))
    local ok, output = run("--device cpu --steps 2 --compare f32 --text " .. path)
    assert.is_true(ok, output)
    support.write_file(path, support.read_file(path):sub(1, 500))
    ok, output = run("--device cpu --steps 2 --text " .. path)
    os.remove(path)
    assert.is_false(ok)
    assert.is_truthy(output:find("damaged or truncated", 1, true), output)
    local default = "/usr/share/doc/jargon-text/jargon.txt.gz"
    if not io.open(default) then
      ok, output = support.run(root .. "examples/gpt.lua --device cpu")
      assert.is_false(ok)
      assert.is_truthy(output:find("package jargon-text, or name another file with --text", 1, true), output)
    end
  end)
end)

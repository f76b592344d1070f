-- examples/vit.lua on a few made-up images, and what it says to wrong options.
local support = require "spec.support"
local with_images = require "spec.support.images"

local example = support.path "examples/vit.lua"

describe("examples/vit.lua", function()
  local directory = with_images()

  local function run(options)
    options = " --width 32 --layers 1 --heads 2 --batch 50 " .. options
    return support.run(example .. options, "FASHION_MNIST=" .. directory)
  end

  local function accuracy(output, precision)
    return tonumber(output:match("\n" .. precision .. " +([%d.]+)%%")) or error(output)
  end

  support.each_device(function(device)
    it("learns in every precision, and tells what the formats do", function()
      local ok, output = run(("--device %s --epochs 8 --lr 0.01 --warmup 5 --augment no --layer-scale --watch 20 " ..
        "--compare f32,mixed,global_native"):format(device))
      assert.is_true(ok, output)
      for _, precision in ipairs {"f32", "mixed", "global_native"} do
        assert.is_true(accuracy(output, precision) > 90, output)
      end
      assert.is_truthy(output:find("blocks%.1%.mlp%.fc1 +grad_output +e5m2"), output)
    end)

    it("logs its accuracy where it was asked to, and at the end", function()
      local log = directory .. "/log.csv"
      local ok, output = run(("--device %s --epochs 2 --compare f32 --evaluate-every 10 --csv %s"):format(device, log))
      assert.is_true(ok, output)
      local found = {}
      for step, value in support.read_file(log):gmatch "\nf32,1,(%d+),[^\n]*,([%d.]+)%f[\n]" do
        found[tonumber(step)] = ("%.2f"):format(tonumber(value) * 100)
      end
      assert.is_truthy(found[10] and found[20])
      assert.same({[10] = found[10], [20] = found[20], [24] = ("%.2f"):format(accuracy(output, "f32"))}, found)
    end)

    it("shifts and mirrors, and repeats itself for a seed", function()
      local options = ("--device %s --epochs 1 --augment yes --compare f32 --seeds 2 --optimizer stable_adamw")
        :format(device)
      local first, second = select(2, run(options)), select(2, run(options))
      local losses = {}
      for loss in first:gmatch "loss ([%d.]+)" do losses[#losses + 1] = loss end
      assert.is_true(#losses >= 20, first)
      for loss in second:gmatch "loss ([%d.]+)" do assert.equal(table.remove(losses, 1), loss) end
      assert.is_truthy(first:find "%% ± ")
    end)
  end)

  it("refuses wrong options in one line that names them", function()
    for options, words in support.sorted_pairs {
      ["--compare bf16,e5m2"] = "no precision 'e5m2'; known are bf16", ["--batch 601"] = "600 training images",
      ["--heads 3"] = "heads", ["--optimizer lion"] = "adamw or stable_adamw", ["--seeds 0"] = "'0'",
      ["--recipes /nowhere.lua"] = "/nowhere.lua", ["--layer-scales"] = "--layer-scales",
    } do
      local ok, output = run("--device cpu --epochs 1 " .. options)
      assert.is_false(ok, options)
      assert.is_truthy(output:find(words, 1, true), output)
      assert.is_truthy(output:find("vit: [^\n]*\n$"), output)
    end
  end)
end)

-- examples/fashion_mnist.lua and vit.lua on a few made-up images, and what they say to wrong options.
local fp8 = require "fp8"
local support = require "spec.support"

local examples = (debug.getinfo(1, "S").source:sub(2):gsub("[^/]*$", "")) .. "../examples/"
local example, vit = examples .. "fashion_mnist.lua", examples .. "vit.lua"

--- idx files of images whose class is the place of a bright bar in them.
local function write_images(directory, prefix, count)
  local random = support.random(count)
  local images, labels = {}, {}
  for i = 1, count do
    local class = (i - 1) % 10
    local pixels = {}
    for p = 0, 783 do
      local bright = math.floor(p / 78) == class
      pixels[p + 1] = string.char((bright and 200 or 0) + random(50))
    end
    images[i], labels[i] = table.concat(pixels), string.char(class)
  end
  local size = string.char(0, 0, math.floor(count / 256), count % 256)
  support.write_file(directory .. "/" .. prefix .. "-images-idx3-ubyte",
    "\0\0\8\3" .. size .. "\0\0\0\28\0\0\0\28" .. table.concat(images))
  support.write_file(directory .. "/" .. prefix .. "-labels-idx1-ubyte", "\0\0\8\1" .. size .. table.concat(labels))
end

-- A directory of such images while the tests of a block run. Returns its path.
local function with_images()
  local directory = support.temporary_directory(setup, teardown)
  setup(function()
    write_images(directory, "train", 600)
    write_images(directory, "t10k", 200)
  end)
  return directory
end

describe("examples/fashion_mnist.lua", function()
  local directory = with_images()

  local function run(options)
    return support.run(example .. " " .. options, "FASHION_MNIST=" .. directory)
  end

  --- Test accuracy by layer, from the final table.
  local function accuracies(output)
    local found = {}
    local rows = output:match "layer +test accuracy.-\n(.*)"
    assert.is_truthy(rows, output)
    for layer, accuracy, _, seconds in rows:gmatch "(%w+) +([%d.]+)%% +([%d.]+) +([%d.]+)" do
      assert.is_true(tonumber(seconds) < 60)
      found[layer] = tonumber(accuracy)
    end
    return found
  end

  support.each_device(function(device)
    for _, options in ipairs {"", "--dtype bf16", "--dtype=f16 --native"} do
      it("learns with every layer: " .. options, function()
        local ok, output = run(("--device %s --width 32 --epochs 2 --batch 25 %s"):format(device, options))
        assert.is_true(ok, output)
        local found = accuracies(output)
        for _, layer in ipairs {"Linear", "LinearMixed", "LinearGlobal"} do
          assert.is_true(found[layer] and found[layer] > 95, output)
        end
      end)
    end
  end)

  it("repeats itself for a seed, and trains only the layers asked for", function()
    local options = "--device cpu --width 8 --epochs 1 --layers LinearMixed --seed 3"
    local first, second = select(2, run(options)), select(2, run(options))
    assert.same(accuracies(first), accuracies(second))
    assert.equal(first:match "loss ([%d.]+)", second:match "loss ([%d.]+)")
    assert.is_nil(accuracies(first).Linear)
  end)

  it("explains its options", function()
    local ok, output = run "--help"
    assert.is_true(ok)
    for _, option in ipairs {"--device", "--dtype", "--epochs", "--width", "--native"} do
      assert.is_truthy(output:find(option, 1, true), option)
    end
  end)

  it("refuses wrong options in one line that names them", function()
    for options, words in pairs {
      ["--epoch 3"] = "--epoch", ["--epochs"] = "--epochs", ["--epochs 0"] = "'0'", ["--epochs=1.5"] = "'1.5'",
      ["--width x"] = "'x'", ["--dtype f64"] = "f64", ["--layers Conv"] = "Conv", ["--lr -1"] = "-1",
      ["--device gpu"] = "gpu", ["3"] = "'3'",
    } do
      local ok, output = run(options)
      assert.is_false(ok, options)
      assert.is_truthy(output:find("^fashion_mnist: "), output)
      assert.is_truthy(output:find(words, 1, true), output)
      assert.equal(1, select(2, output:gsub("\n", "\n")), output)
    end
  end)

  support.each_device(function(device)
    it("is what examples/first.lua does in short", function()
      local ok, output = support.run(examples .. "first.lua " .. device, "FASHION_MNIST=" .. directory)
      assert.is_true(ok, output)
      assert.is_true(tonumber(output:match "epoch 5: loss [%d.]+, test accuracy ([%d.]+)%%\n$") > 90, output)
    end)
  end)

  it("says what is missing where there are no images", function()
    local ok, output = support.run(example, "FASHION_MNIST=/nowhere")
    assert.is_false(ok)
    assert.is_truthy(output:find("dataset-fashion-mnist", 1, true), output)
  end)

  it("loads fp8 without reading what it does not need", function()
    local ok, output = support.run_lua [[
      require "fp8"
      for _, name in ipairs {"fp8.nn", "fp8.data", "fp8.files", "cjson", "zlib"} do
        assert(not package.loaded[name], name)
      end
    ]]
    assert.is_true(ok, output)
    assert.is_truthy(fp8)
  end)
end)

describe("examples/vit.lua", function()
  local directory = with_images()

  local function run(options)
    return support.run(vit .. " --width 32 --layers 1 --heads 2 --batch 50 " .. options, "FASHION_MNIST=" .. directory)
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
    for options, words in pairs {
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

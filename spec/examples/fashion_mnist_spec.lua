-- examples/fashion_mnist.lua on a few made-up images, and what it says to wrong options.
local fp8 = require "fp8"
local support = require "spec.support"
local with_images = require "spec.support.images"

local example = support.path "examples/fashion_mnist.lua"

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
    for options, words in support.sorted_pairs {
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
      local ok, output = support.run(support.path "examples/first.lua" .. " " .. device, "FASHION_MNIST=" .. directory)
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

-- The short scripts about sequences, in a tiny size.
local support = require "spec.support"
local with_images = require "spec.support.images"

support.each_device(function(device)
  describe("examples/tasks", function()
    local directory = with_images()

    local function run(options)
      local ok, output = support.run(support.path(("examples/tasks/%s --device %s"):format(options, device)),
        "FASHION_MNIST=" .. directory)
      assert.is_true(ok, output)
      return output
    end

    local text = "--text " .. support.path "README.md"

    it("has a GRU that learns the bytes of a text, and continues it", function()
      local output = run(("gru.lua %s --steps 60 --width 32 --sample 20"):format(text))
      local before, after = output:match "step 50: ([%d.]+).*step 60: ([%d.]+) nats a byte\n"
      assert.is_true(tonumber(before) < 5 and tonumber(after) < 3.6, output)
      assert.equal(20, #output:match "step 60: [^\n]*\n(.*)\n$")
    end)

    it("has a block of a language model", function()
      local last = run(("block.lua %s --steps 60 --width 32"):format(text)):match "step 60: ([%d.]+) nats a byte"
      assert.is_true(tonumber(last) < 3.5, last)
    end)

    it("has a perplexity", function()
      local output = run(("perplexity.lua %s --steps 40 --width 32"):format(text))
      local perplexity, bits, count = output:match "perplexity ([%d.]+), ([%d.]+) bits a byte, over (%d+) bytes"
      assert.is_true(tonumber(perplexity) < 60 and tonumber(perplexity) > 2, output)
      assert.near(tonumber(perplexity), 2 ^ tonumber(bits), 0.1)
      assert.is_true(tonumber(count) > 1000)
    end)

    it("has a block of a vision transformer", function()
      local output = run "vit_block.lua --epochs 10 --images 600 --width 16"
      assert.is_true(tonumber(output:match "epoch 10: ([%d.]+)%% right") > 60, output)
    end)
  end)
end)

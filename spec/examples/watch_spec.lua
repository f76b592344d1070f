-- examples/watch.lua: the recipe that stalls, and the table that shows why.
local support = require "spec.support"

local example = support.path "examples/watch.lua"

describe("examples/watch.lua", function()
  support.each_device(function(device)
    it("stalls with e4m3 gradients, learns with e5m2 ones, and shows why", function()
      local prefix = os.tmpname()
      local options = "--device %s --steps 200 --every 20 --save %s"
      local ok, output = support.run(example .. " " .. options:format(device, prefix))
      assert.is_true(ok, output)
      local found = {}
      for format, run in output:gmatch "gradients as (%w+), one scale a tensor\n(.-)\n\n" do
        local distance, thickness = run:match "\n +200 +([%d.]+) +([%d.]+)"
        local underflow = run:match "\n  5 +grad_output +%w+ +tensor +%S+ +%S+ +%S+ +(%S+)"
        found[format] = {tonumber(distance), tonumber(thickness), tonumber(underflow)}
        local table_text = support.read_file(prefix .. "-" .. format .. ".csv")
        assert.equal(1 + 9 * 10, select(2, table_text:gsub("\n", "\n")))
        os.remove(prefix .. "-" .. format .. ".csv")
      end
      os.remove(prefix)
      assert.is_true(found.e4m3[1] < 0.05 and found.e5m2[1] < 0.05, output)
      assert.is_true(found.e4m3[2] > 0.9, output)
      assert.is_true(found.e5m2[2] < 0.7, output)
      assert.is_true(found.e4m3[3] >= 49.5, output)
      assert.is_true(found.e5m2[3] < 1, output)
    end)
  end)

  it("refuses wrong options in one line", function()
    for options, words in support.sorted_pairs {
      ["--step 3"] = "--step", ["--steps"] = "--steps", ["--every 0"] = "'0'", ["3"] = "'3'",
    } do
      local ok, output = support.run(example .. " " .. options)
      assert.is_false(ok)
      assert.is_truthy(output:find("^watch: "), output)
      assert.is_truthy(output:find(words, 1, true), output)
      assert.equal(1, select(2, output:gsub("\n", "\n")), output)
    end
  end)
end)

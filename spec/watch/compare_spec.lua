-- The comparison of a tensor with its quantized values, behind fp8.analyze and fp8.watch, against a slow reference.
local comparison = require "fp8.watch.compare"
local fp8 = require "fp8"
local reference = require "spec.support.reference"
local statistics = require "spec.support.statistics"
local positional = require "spec.support.positional"
local support = require "spec.support"

local f32, fails = reference.f32, support.fails
local formats, same, expected_statistics = statistics.formats, statistics.same, statistics.expected

local function read(row) return comparison.read(row:to("cpu"), 0) end

support.each_device(function(device)
  describe("The comparison", function()
    it("counts what is beyond the range of given scales", function()
      fp8.manual_seed(3)
      local x = fp8.randn(64, 65, {device = device})
      local list = support.flat(x)
      for name, format in support.sorted_pairs {
        e4m3 = "e4m3", e5m2 = "e5m2", e4m3_map = fp8.create_map(true, 4, 3, 8),
        unsigned = fp8.create_map(false, 4, 4, 8),
      } do
        local rule = formats[name] or statistics.map_format(format)
        local scale = fp8.full({65}, f32(0.7 / rule.largest), {device = device})
        local values = positional.fake_quantize(x, format, 64, nil, scale, "f32")
        local row = comparison.new_rows(device)
        positional.compare(row, x, values, scale, format, 64)
        local expected = expected_statistics(list, support.flat(values), scale:totable(), rule, 64)
        assert.is_true(expected.saturated > 0.3)
        same(expected, read(row), name)
      end
    end)

    it("knows the scales of tiles, and what powers of two saturate", function()
      fp8.manual_seed(9)
      local x = fp8.randn(2, 10, 33, {device = device})
      for _, tile in ipairs {{3, 5}, {1, 32}, {7, 40}, {50, 4}, {1, 1}} do
        local height, width = unpack(tile)
        local function tile_of(i)
          local row, column = math.floor((i - 1) / 33), (i - 1) % 33
          return math.floor(row / height) * math.ceil(33 / width) + math.floor(column / width) + 1
        end
        for _, rounding in ipairs {"none", "power_of_two", "mx"} do
          local codes, scale = positional.quantize(x, "e4m3", tile, nil, nil, nil, nil, nil, rounding)
          local values = positional.dequantize(codes, scale, "e4m3", tile, "f32")
          local row = comparison.new_rows(device)
          positional.compare(row, x, codes, scale, "e4m3", tile)
          local expected =
            expected_statistics(support.flat(x), support.flat(values), scale:totable(), formats.e4m3, tile_of)
          same(expected, read(row), rounding)
          if width == 32 then assert.equal(rounding == "mx", expected.saturated > 0) end
        end
      end
    end)

    it("takes codes with their scales, and values of any dtype", function()
      fp8.manual_seed(4)
      for _, dtype in ipairs {"f32", "f16", "bf16"} do
        local x = fp8.randn(31, 50, {device = device}):to(dtype)
        for _, format in ipairs {"e4m3", "e5m2"} do
          local codes, scale = positional.quantize(x, format, 50)
          local values = positional.fake_quantize(x, format, 50, nil, nil, "f32")
          local first, second = comparison.new_rows(device), comparison.new_rows(device)
          positional.compare(first, x, codes, scale, format, 50)
          positional.compare(second, x, values, scale, format, 50)
          assert.same(read(second), read(first))
          local rounded = values:to(dtype)
          positional.compare(first, x, rounded, scale, format, 50)
          same(expected_statistics(support.flat(x), support.flat(rounded), scale:totable(), formats[format], 50),
            read(first), dtype)
        end
      end
    end)

    it("says the same of values that it makes itself", function()
      fp8.manual_seed(8)
      for _, dtype in ipairs {"f32", "f16", "bf16"} do
        for _, factor in ipairs {1, dtype == "f16" and 1e-4 or 1e-30} do
          local x = (fp8.randn(40, 96) * (fp8.randn(40, 96) * 3):exp() * factor):to(dtype)
          x[3]:fill_(0)
          local list = support.flat(x)
          x = x:to(device)
          for name, format in support.sorted_pairs {
            e4m3 = "e4m3", e5m2 = "e5m2", e5m2_map = fp8.create_map(true, 5, 2, 8),
            unsigned = fp8.create_map(false, 4, 4, 8),
          } do
            local rule = formats[name] or statistics.map_format(format)
            for _, blocksize in ipairs {96, 40, 3840, 5, false} do
              local blocks, values_dtype = blocksize or nil, type(format) == "string" and "f32" or dtype
              local _, scale = positional.quantize(x, format, blocks)
              for _, known in ipairs {false, scale * 0.3} do
                local values = positional.fake_quantize(x, format, blocks, nil, known or nil, values_dtype)
                local row = comparison.new_rows(device)
                positional.compare_quantized(row, x, format, blocks, known or nil, dtype)
                local expected = expected_statistics(list, support.flat(values), (known or scale):totable(), rule,
                  blocksize or 3840)
                same(expected, read(row), ("%s %s %s"):format(dtype, name, tostring(blocksize)))
              end
            end
          end
        end
      end
    end)

    it("measures magnitudes alone", function()
      local x = fp8.randn(1000, {device = device}) * 1e-30
      local row = comparison.new_rows(device)
      positional.compare(row, x)
      local list = support.flat(x)
      same(expected_statistics(list, list), read(row), "alone")
      x:fill_(1e30)
      positional.compare(row, x)
      assert.is_true(math.abs(read(row).rms / 1e30 - 1) < 1e-6)
    end)

    it("gives the same bits every time", function()
      local x = fp8.randn(300, 1001, {device = device})
      local values = x * 1.01
      local first, second = comparison.new_rows(device), comparison.new_rows(device)
      positional.compare(first, x, values)
      for _ = 1, 5 do
        positional.compare(second, x, values)
        assert.same(first:totable(), second:totable())
      end
    end)

    it("refuses what does not fit", function()
      local x, row = fp8.randn(3, 4, {device = device}), comparison.new_rows(device)
      local scale = fp8.ones(1, {device = device})
      fails("the row must be a contiguous i64 tensor of 11 elements, got i64 of shape (3)", positional.compare,
        fp8.zeros(3, {dtype = "i64", device = device}), x)
      fails("the row must be", positional.compare, fp8.zeros(11, {device = device}), x)
      fails("the values must have x's shape (3, 4), got (4, 3)", positional.compare, row, x, x:t())
      fails("codes need their scales", positional.compare, row, x, x:to("e4m3"))
      fails("absmax must be f32 of shape (1)", positional.compare, row, x, x, fp8.ones(2, {device = device}), "e4m3")
      fails("dtype must be f32, f16 or bf16, got i64", positional.compare, row, row, row)
      fails("dtype must be f32, f16 or bf16, got u8", positional.compare, row, x, x:to("u8"), scale, "e4m3")
      fails("blocksize must be at least 1", positional.compare, row, x, x, scale, "e4m3", 0)
      local two = fp8.ones(2, {device = device})
      fails("absmax must be f32 of shape (1)", positional.compare_quantized, row, x, "e4m3", nil, two)
      fails("the row must be", positional.compare_quantized, x, x, "e4m3")
      assert.equal(0, read(row).count)
    end)
  end)
end)

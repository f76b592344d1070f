-- fp8.analyze, and the comparison behind it, against a slow reference.
local core = require "fp8.core"
local comparison = require "fp8.watch.compare"
local fp8 = require "fp8"
local reference = require "spec.reference"
local support = require "spec.support"

local f32, fails, round = reference.f32, support.fails, reference.round

local function is_finite(value) return value == value and math.abs(value) ~= math.huge end

-- Range and rounding of a format: how far x / scale may go, and what becomes of it.
local function map_format(map)
  local values = map:totable()
  return {
    largest = 1, low = values[1] - (values[2] - values[1]) / 2, high = values[256] + (values[256] - values[255]) / 2,
    round = function(s)
      for i = 1, 255 do
        local midpoint = f32(f32(values[i] + values[i + 1]) * 0.5)
        if s < midpoint or (s == midpoint and i % 2 == 1) then return values[i] end
      end
      return values[256]
    end,
  }
end

local formats = {
  e4m3 = {largest = 448, low = -464, high = 464, round = round.e4m3},
  e5m2 = {largest = 57344, low = -61440, high = 61440, round = round.e5m2},
  e4m3_map = map_format(fp8.create_map(true, 4, 3, 8)),
  e5m2_map = map_format(fp8.create_map(true, 5, 2, 8)),
  dynamic = map_format(fp8.create_dynamic_map()),
  linear = map_format(fp8.create_linear_map()),
}

--- The values that x becomes, and their scales.
local function quantized(x, format, blocksize, divide)
  local values, scales = {}, {}
  for start = 1, #x, blocksize do
    local finish, absmax = math.min(start + blocksize - 1, #x), 0
    for i = start, finish do
      if not is_finite(x[i]) then absmax = 0 / 0 end
      if absmax == absmax then absmax = math.max(absmax, math.abs(x[i])) end
    end
    local scale = f32(absmax / format.largest)
    table.insert(scales, scale)
    local inverse = f32(1 / scale)
    for i = start, finish do
      local s = 0
      if scale > 0 then s = (divide or inverse == math.huge) and f32(x[i] / scale) or f32(x[i] * inverse) end
      values[i] = scale == scale and f32(format.round(s) * scale) or 0 / 0
    end
  end
  return values, scales
end

--- What comparison.read has to give. `blocksize` may be a function from an element's position to its scale's.
local function expected_statistics(x, values, scales, format, blocksize)
  local function scale_of(i)
    if not scales then return nil end
    return scales[type(blocksize) == "function" and blocksize(i) or math.floor((i - 1) / blocksize) + 1]
  end
  local all = {count = #x, zeros = 0, nonfinite = 0, absmax = 0, underflow = 0, saturated = 0, relative_error = 0}
  local sum, squares, errors = 0, 0, 0
  for i = 1, #x do
    if not is_finite(x[i]) then
      all.nonfinite = all.nonfinite + 1
      all.first_nonfinite = all.first_nonfinite or i
    else
      local scale = scale_of(i)
      local outside = scale and (x[i] > f32(format.high * scale) or x[i] < f32(format.low * scale))
      if x[i] == 0 then all.zeros = all.zeros + 1 end
      if outside then
        all.saturated = all.saturated + 1
      elseif x[i] ~= 0 and values[i] == 0 then
        all.underflow = all.underflow + 1
      end
      sum, squares, errors = sum + x[i], squares + x[i] ^ 2, errors + (x[i] - values[i]) ^ 2
      all.absmax = math.max(all.absmax, math.abs(x[i]))
      if x[i] ~= 0 and values[i] ~= 0 and all.relative_error == all.relative_error then
        local ratio = math.abs(x[i] - values[i]) / math.abs(x[i])
        all.relative_error = ratio ~= ratio and ratio or math.max(all.relative_error, ratio)
      end
    end
  end
  local finite = all.count - all.nonfinite
  all.mean, all.rms = sum / math.max(finite, 1), math.sqrt(squares / math.max(finite, 1))
  all.snr = all.nonfinite > 0 and 0 / 0 or errors == 0 and math.huge or 10 * math.log10(squares / errors)
  local magnitudes = math.max(finite - all.zeros, 1)
  all.underflow, all.saturated = all.underflow / magnitudes, all.saturated / magnitudes
  return all
end

local function same(expected, actual, context)
  for name, value in pairs(expected) do
    local found = actual[name]
    local equal = found == value or (value ~= value and found ~= found)
    if not equal and (name == "mean" or name == "rms" or name == "snr" or name == "relative_error") then
      local scale = name == "mean" and expected.rms or math.abs(value)
      equal = math.abs(found - value) <= 1e-5 * scale
    end
    assert.is_true(equal, ("%s: %s should be %s, is %s"):format(context, name, tostring(value), tostring(found)))
  end
  assert.equal(expected.first_nonfinite, actual.first_nonfinite)
end

local function test_values(shape, device, dtype)
  local x = fp8.randn(shape) * (fp8.randn(shape) * 3):exp()
  if #shape == 2 and shape[1] > 2 then x[2]:fill_(0) end
  return x:to(dtype):to(device)
end

--- The block length of a scale for rows of so many features.
local function block_of(scale, features, count)
  if scale == "tensor" then return count end
  if scale == "row" then return features end
  if scale == "block" then return math.max(64, 2 ^ math.ceil(math.log(features) / math.log(2))) end
  return scale
end

local function read(row) return comparison.read(row:to("cpu"), 0) end

support.each_device(function(device)
  describe("fp8.analyze", function()
    local names = {}
    for name in pairs(formats) do table.insert(names, name) end
    table.sort(names)

    for _, dtype in ipairs {"f32", "f16", "bf16"} do
      it("gives the reference's statistics for all formats and scales: " .. dtype, function()
        fp8.manual_seed(5)
        for _, shape in ipairs {{1}, {5, 70}, {3, 1000}, {2, 3, 129}} do
          local x = test_values(shape, device, dtype)
          local list, features = support.flat(x), shape[#shape]
          local scales = {"tensor", "row", "block", 7}
          local result = fp8.analyze(x, {formats = names, scales = scales})
          assert.equal(#names * #scales, #result)
          for _, name in ipairs(names) do
            for _, scale in ipairs(scales) do
              local blocksize = block_of(scale, features, #list)
              local divide = scale == "tensor" and #name > 4
              local values, factors = quantized(list, formats[name], blocksize, divide)
              local entry = result[name][tostring(scale)]
              assert.equal(name, entry.format)
              same(expected_statistics(list, values, factors, formats[name], blocksize), entry, name .. " " .. scale)
            end
          end
        end
      end)
    end

    it("sums to one part in 100,000 however long the tensor is, and wherever it begins", function()
      fp8.manual_seed(6)
      local all = fp8.randn(300001)
      for start = 1, 5 do
        local x = all:narrow(1, start, 299996)
        local list = support.flat(x)
        local values, factors = quantized(list, formats.e4m3, 128)
        local result = fp8.analyze(x:to(device):narrow(1, 1, 299996),
          {formats = {{format = "e4m3", scale = 128}}})
        same(expected_statistics(list, values, factors, formats.e4m3, 128), result[1], "long")
      end
    end)

    it("locates the first of several values that are not finite", function()
      local x = fp8.ones(700, 900, {device = device})
      x[500][3], x[600][4], x[699][900] = 0 / 0, math.huge, -math.huge
      local row = fp8.analyze(x, {formats = {"e4m3"}, scales = {"row"}})[1]
      assert.equal(3, row.nonfinite)
      assert.equal(499 * 900 + 3, row.first_nonfinite)
      assert.is_true(row.snr ~= row.snr)
      assert.equal(1, row.absmax)
      local text = tostring(fp8.analyze(x))
      assert.is_truthy(text:find("3 non-finite values, first at (500, 3) of shape (700, 900)", 1, true))
    end)

    it("takes zeros, nothing, a number, strides and a tensor that requires a gradient", function()
      for _, x in ipairs {fp8.zeros(3, 4), fp8.zeros(0, 4), fp8.tensor(-3), fp8.randn(6, 4):t(),
                          fp8.randn(3, 4, {requires_grad = true})} do
        local before = x:detach():clone()
        local result = fp8.analyze(x:to(device))
        assert.equal(12, #result)
        assert.is_string(tostring(result))
        support.equal(x:detach(), before)
      end
      local zeros = fp8.analyze(fp8.zeros(3, 4, {device = device})).e4m3.tensor
      assert.equal(math.huge, zeros.snr)
      assert.equal(12, zeros.zeros)
      assert.equal(0, zeros.underflow)
      local x = fp8.randn(60, 40, {device = device})
      assert.same(fp8.analyze(x:t():contiguous())[2], fp8.analyze(x:t())[2])
    end)

    it("prints a table", function()
      fp8.manual_seed(1)
      local text = tostring(fp8.analyze(fp8.randn(16, 32, {device = device}), {formats = {"e5m2", mine = "linear"}}))
      assert.is_truthy(text:find "^f32 of shape %(16, 32%): absmax [%d.]+, rms [%d.]+, mean %-?[%d.e-]+, 0 zeros\n")
      assert.is_truthy(text:find "\n +format +scale +snr dB +underflow %% +saturated %% +largest rel. error\n")
      assert.is_truthy(text:find "\n +e5m2 +tensor +%d+%.%d +")
      assert.is_truthy(text:find "\n +mine +block +%d+%.%d +")
    end)
  end)

  describe("The comparison", function()
    it("counts what is beyond the range of given scales", function()
      fp8.manual_seed(3)
      local x = fp8.randn(64, 65, {device = device})
      local list = support.flat(x)
      for name, format in pairs {e4m3 = "e4m3", e5m2 = "e5m2", e4m3_map = fp8.create_map(true, 4, 3, 8),
                                 unsigned = fp8.create_map(false, 4, 4, 8)} do
        local rule = formats[name] or map_format(format)
        local scale = fp8.full({65}, f32(0.7 / rule.largest), {device = device})
        local values = core.fake_quantize(x, format, 64, nil, scale, "f32")
        local row = comparison.new_rows(device)
        core.compare(row, x, values, scale, format, 64)
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
          local codes, scale = core.quantize(x, "e4m3", tile, nil, nil, nil, nil, nil, rounding)
          local values = core.dequantize(codes, scale, "e4m3", tile, "f32")
          local row = comparison.new_rows(device)
          core.compare(row, x, codes, scale, "e4m3", tile)
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
          local codes, scale = core.quantize(x, format, 50)
          local values = core.fake_quantize(x, format, 50, nil, nil, "f32")
          local first, second = comparison.new_rows(device), comparison.new_rows(device)
          core.compare(first, x, codes, scale, format, 50)
          core.compare(second, x, values, scale, format, 50)
          assert.same(read(second), read(first))
          local rounded = values:to(dtype)
          core.compare(first, x, rounded, scale, format, 50)
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
          for name, format in pairs {e4m3 = "e4m3", e5m2 = "e5m2", e5m2_map = fp8.create_map(true, 5, 2, 8),
                                     unsigned = fp8.create_map(false, 4, 4, 8)} do
            local rule = formats[name] or map_format(format)
            for _, blocksize in ipairs {96, 40, 3840, 5, false} do
              local blocks, values_dtype = blocksize or nil, type(format) == "string" and "f32" or dtype
              local _, scale = core.quantize(x, format, blocks)
              for _, known in ipairs {false, scale * 0.3} do
                local values = core.fake_quantize(x, format, blocks, nil, known or nil, values_dtype)
                local row = comparison.new_rows(device)
                core.compare_quantized(row, x, format, blocks, known or nil, dtype)
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
      core.compare(row, x)
      local list = support.flat(x)
      same(expected_statistics(list, list), read(row), "alone")
      x:fill_(1e30)
      core.compare(row, x)
      assert.is_true(math.abs(read(row).rms / 1e30 - 1) < 1e-6)
    end)

    it("gives the same bits every time", function()
      local x = fp8.randn(300, 1001, {device = device})
      local values = x * 1.01
      local first, second = comparison.new_rows(device), comparison.new_rows(device)
      core.compare(first, x, values)
      for _ = 1, 5 do
        core.compare(second, x, values)
        assert.same(first:totable(), second:totable())
      end
    end)

    it("refuses what does not fit", function()
      local x, row = fp8.randn(3, 4, {device = device}), comparison.new_rows(device)
      local scale = fp8.ones(1, {device = device})
      fails("the row must be a contiguous i64 tensor of 11 elements, got i64 of shape (3)", core.compare,
        fp8.zeros(3, {dtype = "i64", device = device}), x)
      fails("the row must be", core.compare, fp8.zeros(11, {device = device}), x)
      fails("the values must have x's shape (3, 4), got (4, 3)", core.compare, row, x, x:t())
      fails("codes need their scales", core.compare, row, x, x:to("e4m3"))
      fails("absmax must be f32 of shape (1)", core.compare, row, x, x, fp8.ones(2, {device = device}), "e4m3")
      fails("dtype must be f32, f16 or bf16, got i64", core.compare, row, row, row)
      fails("dtype must be f32, f16 or bf16, got u8", core.compare, row, x, x:to("u8"), scale, "e4m3")
      fails("blocksize must be at least 1", core.compare, row, x, x, scale, "e4m3", 0)
      local two = fp8.ones(2, {device = device})
      fails("absmax must be f32 of shape (1)", core.compare_quantized, row, x, "e4m3", nil, two)
      fails("the row must be", core.compare_quantized, x, x, "e4m3")
      fails("scales of 'mx' are for e4m3", core.compare_quantized, row, x, fp8.create_map(), 4, nil, nil, "mx")
      assert.equal(0, read(row).count)
    end)
  end)
end)

describe("fp8.analyze", function()
  it("refuses what it can't analyze", function()
    local x = fp8.randn(3, 4)
    fails("analyze: a tensor is needed, got nil", fp8.analyze)
    fails("analyze: the tensor must be f32, f16 or bf16, got i64", fp8.analyze, fp8.arange(3, {dtype = "i64"}))
    fails("analyze: options must be a table, got number", fp8.analyze, x, 3)
    fails("analyze: unknown option format", fp8.analyze, x, {format = "e4m3"})
    fails('analyze: e3m4.format must be a map (a tensor of 256 values), "e4m3" or "e5m2", got "e3m4"', fp8.analyze, x,
      {formats = {"e3m4"}})
    fails("analyze: mine.format: ", fp8.analyze, x, {formats = {mine = fp8.zeros(3)}})
    fails("analyze: e4m3.scale must be", fp8.analyze, x, {formats = "e4m3", scales = {"column wise"}})
    fails("analyze: e4m3: unknown field scales", fp8.analyze, x, {formats = {{format = "e4m3", scales = "row"}}})
    fails("analyze: formats and scales must name at least one each", fp8.analyze, x, {formats = {}})
    fails("analyze: formats and scales must name at least one each", fp8.analyze, x, {scales = {}})
  end)
end)

-- Quantization with maps and formats against the slow reference.
local fp8 = require "fp8"
local core = require "fp8.core"
local reference = require "spec.support.reference"
local philox = require "spec.support.philox"
local positional = require "spec.support.positional"
local support = require "spec.support"

local f32, same_bytes = reference.f32, support.same_bytes

local maps = {
  e4m3 = fp8.create_map(true, 4, 3, 8),
  e5m2 = fp8.create_map(true, 5, 2, 8),
  unsigned = fp8.create_map(false, 4, 4, 8),
  short = fp8.create_map(true, 2, 1, 4),
  dynamic = fp8.create_dynamic_map(),
  linear = fp8.create_linear_map(),
  powers = fp8.create_float_map(3, 0),
}

--- 256 sorted values from a seed, with values close together and equal ones among them.
local function random_map(seed)
  local state, values = seed, {}
  for i = 1, 256 do
    state = (state * 16807) % 2147483647
    local value = f32(state / 2147483647 * 2 - 1)
    values[i] = i % 7 == 0 and f32(value * 1e-6) or value
  end
  values[10], values[20] = values[9], values[19]
  table.sort(values)
  return fp8.tensor(values)
end

maps.random1, maps.random2 = random_map(17), random_map(4711)

--- Values of several magnitudes, some on the map's midpoints, some zero.
local function test_values(n, device, dtype, map)
  local x = fp8.randn(n) * fp8.randn(n):exp()
  local midpoints = (map:narrow(1, 1, 255) + map:narrow(1, 2, 255)) * 0.5
  if n >= 600 then
    x:narrow(1, 100, 255):copy_(midpoints)
    x:narrow(1, 90, 1):fill_(1)
    x:narrow(1, 400, 150):fill_(0)
  end
  return x:to(dtype):to(device)
end

support.each_device(function(device)
  describe("quantization with a map", function()
    for name, map in support.sorted_pairs(maps) do
      it("gives the reference's codes, absmax and values: " .. name, function()
        fp8.manual_seed(7)
        local values = map:totable()
        for trial, n in ipairs {1, 63, 1000, 4097} do
          for _, dtype in ipairs {"f32", "f16", "bf16"} do
            local x = test_values(n, device, dtype, map)
            local blocksize = ({64, 128, 1024, 4096})[trial]
            local expected, scales = reference.quantize(support.flat(x), values, blocksize, false)
            local codes, state = fp8.quantize_blockwise(x, map, blocksize)
            assert.same(expected, codes:totable())
            assert.same(scales, state.absmax:totable())
            local decoded = fp8.tensor(reference.dequantize(expected, scales, values, blocksize))
            support.equal(fp8.dequantize_blockwise(codes, state), decoded:to(dtype))
            expected, scales = reference.quantize(support.flat(x), values, n, true)
            codes, state = fp8.quantize(x, map)
            assert.same(expected, codes:totable())
            decoded = fp8.tensor(reference.dequantize(expected, scales, values, n))
            support.equal(fp8.dequantize(codes, state), decoded:to(dtype))
          end
        end
      end)
    end

    it("rounds to what codes stand for, on midpoints and right beside them", function()
      for _, map in support.sorted_pairs(maps) do
        local midpoints = (map:narrow(1, 1, 255) + map:narrow(1, 2, 255)) * 0.5
        local x = fp8.cat {fp8.ones(1), midpoints, midpoints * (1 + 2 ^ -23), midpoints * (1 - 2 ^ -23)}
        x = fp8.cat({x, fp8.tensor {-1, 0, -0.0, 2 ^ -149, -2 ^ -149, 2 ^ -126, -2 ^ -126}}):to(device)
        local codes, state = fp8.quantize_blockwise(x, map, 1024)
        local values = positional.fake_quantize(x, map, 1024, "nearest")
        same_bytes(values, fp8.dequantize_blockwise(codes, state))
        assert.equal(1, state.absmax:item())
        assert.same(reference.quantize(support.flat(x), map:totable(), 1024, false), codes:totable())
      end
    end)

    it("makes a block with a NaN or an infinity NaN, whole, and no other", function()
      for _, bad in ipairs {0 / 0, math.huge, -math.huge} do
        for _, dtype in ipairs {"f32", "f16", "bf16"} do
          local x = fp8.randn(300, {device = device}):to(dtype)
          x:narrow(1, 130, 1):fill_(bad)
          local codes, state = fp8.quantize_blockwise(x, maps.e4m3, 64)
          local values = fp8.dequantize_blockwise(codes, state):totable()
          for i, value in ipairs(values) do assert.equal(i > 128 and i <= 192, value ~= value) end
          codes, state = fp8.quantize(x, maps.e4m3)
          for _, value in ipairs(fp8.dequantize(codes, state):totable()) do assert.is_true(value ~= value) end
        end
      end
    end)

    it("gives zeros for a zero block", function()
      for _, map in support.sorted_pairs(maps) do
        local codes, state = fp8.quantize_blockwise(fp8.zeros(130, {device = device}), map, 64)
        support.equal(fp8.dequantize_blockwise(codes, state), fp8.zeros(130))
      end
    end)

    it("scales blocks of the smallest numbers, whose absmax has no finite reciprocal", function()
      local x = fp8.tensor({1e-45, -3e-40, 1e-40, 0}, {device = device})
      local codes, state = fp8.quantize_blockwise(x, maps.e5m2, 64)
      local expected, scales = reference.quantize(support.flat(x), maps.e5m2:totable(), 64, false)
      assert.same(expected, codes:totable())
      assert.same(scales, state.absmax:totable())
    end)

    it("runs blocks across row ends of any strides, in row-major order", function()
      local x = fp8.randn(50, 30, {device = device}):t()
      local codes, state = fp8.quantize_blockwise(x, maps.e4m3, 64)
      assert.same(x.shape, codes.shape)
      local flat_codes = fp8.quantize_blockwise(x:contiguous():view(-1), maps.e4m3, 64)
      support.equal(codes:view(-1), flat_codes)
      assert.equal(24, state.absmax:numel())
    end)

    it("refuses what is not a map, and blocks that there are not", function()
      local x = fp8.randn(10, {device = device})
      support.fails("(256)", function() fp8.quantize(x, fp8.zeros(255)) end)
      support.fails("ascending", function() fp8.quantize(x, fp8.arange(256, 0, -1)) end)
      support.fails("not finite", function() fp8.quantize(x, fp8.full({256}, 0 / 0)) end)
      for _, wrong in ipairs {0, -64, 0.5, "rows", {1}, {0, 2}} do
        support.fails("quantize_blockwise: scale must be", function() fp8.quantize_blockwise(x, maps.e4m3, wrong) end)
      end
    end)

    it("takes every map that can be made", function()
      local x = fp8.randn(300, {device = device})
      for bits = 2, 8 do
        for _, signed in ipairs {true, false} do
          local made = {fp8.create_linear_map(signed, bits)}
          for exponent_bits = 1, bits - (signed and 1 or 0) do
            local precision_bits = bits - exponent_bits - (signed and 1 or 0)
            table.insert(made, fp8.create_map(signed, exponent_bits, precision_bits, bits))
          end
          for exponent_bits = 1, bits - 1 do
            table.insert(made, fp8.create_dynamic_map(signed, exponent_bits, bits))
          end
          for _, map in ipairs(made) do
            local finite = map:max():item() < math.huge -- a format of 8 exponent bits exceeds float32
            if finite then
              local codes = fp8.quantize_blockwise(x, map, 64)
              assert.same(reference.quantize(support.flat(x), map:totable(), 64, false), codes:totable())
            else
              support.fails("not finite", function() fp8.quantize_blockwise(x, map, 64) end)
            end
          end
        end
      end
    end)

    it("takes empty tensors", function()
      local codes, state = fp8.quantize_blockwise(fp8.zeros(0, 3, {device = device}), maps.e4m3, 64)
      assert.same({0, 3}, codes.shape)
      assert.same({0, 3}, fp8.dequantize_blockwise(codes, state).shape)
      codes, state = fp8.quantize(fp8.zeros(0, {device = device}), maps.e4m3)
      assert.same({0}, fp8.dequantize(codes, state).shape)
    end)
  end)

  describe("stochastic rounding", function()
    it("takes one of the two neighbours, the mean being the value", function()
      fp8.manual_seed(9)
      local value, n = 0.31, 200000
      local x = fp8.full({n}, value, {device = device})
      x:narrow(1, 1, 1):fill_(1)
      for _, name in ipairs {"e4m3", "e5m2", "dynamic", "random1"} do
        local codes, state = fp8.quantize(x, maps[name], {rounding = "stochastic"})
        local rounded = fp8.dequantize(codes, state):narrow(1, 2, n - 1)
        local low, high = rounded:min():item(), rounded:max():item()
        assert.is_true(low <= value and value < high)
        local entries = {}
        for _, entry in ipairs(maps[name]:totable()) do entries[entry] = true end
        assert.is_true(entries[low] and entries[high])
        local error_of_mean = (high - low) / 2 / math.sqrt(n)
        assert.is_true(math.abs(rounded:mean():item() - value) < 5 * error_of_mean)
      end
    end)

    -- The last code whose number is not above x, or the next one where the first 24 bits, as a share of the way there,
    -- are less than what x has passed of it.
    local function rounded(x, numbers, bits)
      local place = 1
      while place < 256 and numbers[place + 1] <= x do place = place + 1 end
      local low, high = numbers[place], numbers[place + 1]
      if not high then return place end
      return f32(math.floor(bits / 2 ^ 8) / 2 ^ 24 * f32(high - low)) < f32(x - low) and place + 1 or place
    end

    it("decides by the bits of each element, with maps of powers of two, too", function()
      local count = 2048
      local random = philox.rounding_bits(7, 2 ^ 33 + 5, count)
      local formats = {maps.dynamic}
      for bits = 2, 6 do formats[bits] = fp8.create_float_map(bits, 0) end
      formats[7] = fp8.create_float_map(3, 0, {signed = false})
      formats[8] = formats[3] * 0.75
      for i, map in ipairs(formats) do
        local numbers = map:totable()
        local x = fp8.randn(count) * (fp8.randn(count) * (i == 5 and 9 or 3) - 2):exp()
        x:narrow(1, 33, 100):copy_(fp8.rand(100) * 2 ^ -(2 ^ i) * 1.5)
        x:narrow(1, 200, 60):copy_(x:narrow(1, 33, 60) * -1)
        x:narrow(1, 300, 256):copy_(map)
        x:narrow(1, 600, 2):copy_(fp8.tensor {0, -0.0})
        x:narrow(1, 610, 2):copy_(fp8.tensor {1e-42, -1e-42})
        x = x:clamp(-1, 1)
        x:view(-1, 32):narrow(2, 7, 1):fill_(1) -- the scale of each block
        x:view(2, -1, 32):narrow(2, 5, 1):fill_(1)
        for _, dtype in ipairs {"f32", "bf16"} do
          local rounded_x = x:to(dtype)
          local codes, values = {}, {}
          for k, value in ipairs(rounded_x:to("f32"):totable()) do
            local place = rounded(value, numbers, random[k])
            codes[k], values[k] = place - 1, numbers[place]
          end
          values = fp8.tensor(values):to(dtype)
          for _, blocksize in ipairs {32, 1024, {1, 32}, {32, 1}} do
            local quantizer = core.quantizer {format = map, blocksize = blocksize, rounding = "stochastic"}
            for _, outputs in ipairs {"codes values", "codes", "values"} do
              fp8.manual_seed(7, 2 ^ 33 + 5)
              local results = {core.quantize(rounded_x:view(64, 32):to(device), quantizer, outputs)}
              if outputs ~= "values" then assert.same(codes, table.remove(results, 1):view(-1):totable()) end
              if outputs ~= "codes" then same_bytes(results[1]:view(-1):to "cpu", values) end
            end
          end
        end
      end
    end)

    it("leaves exact values alone", function()
      for _, name in ipairs {"e4m3", "dynamic", "linear"} do
        local codes, state = fp8.quantize(maps[name]:to(device), maps[name], {rounding = "stochastic"})
        support.equal(fp8.dequantize(codes, state), maps[name])
      end
    end)

    it("repeats after the same seed", function()
      local x = fp8.randn(5000, {device = device})
      fp8.manual_seed(3)
      local first = fp8.quantize_blockwise(x, maps.e5m2, 256, {rounding = "stochastic"})
      fp8.manual_seed(3)
      support.equal(fp8.quantize_blockwise(x, maps.e5m2, 256, {rounding = "stochastic"}), first)
    end)
  end)

  describe("what one quantization gives", function()
    local shapes = {{5, 1000}, {32, 256}, {48, 4096}, {256, 272}, {3, 8192}, {17, 16384}, {16, 17408}, {2, 20000},
      {1, 40960}, {129, 64}, {33, 35}, {1, 7}}
    local formats = {e4m3_map = maps.e4m3, dynamic = maps.dynamic, random = maps.random1, e4m3 = "e4m3", e5m2 = "e5m2"}

    --- A matrix with zeros of both signs among its values.
    local function matrix(shape, dtype)
      local x = fp8.randn(shape) * fp8.randn(shape):exp()
      x:view(-1):narrow(1, 1, 2):copy_(fp8.tensor {0, -0.0})
      return x:to(dtype)
    end

    --- Asserts that every output of both forms is the CPU's, column sums within rounding.
    local function compare(x, format, blocksize, known)
      local there = x:to(device)
      local known_there = known and known:to(device)
      local sums = x:to("f32"):sum(1)
      local hardware = type(format) == "string"
      local codes, scale, transposed, sum =
        positional.quantize(there, format, blocksize, "nearest", known_there, hardware, "f32")
      local own, own_scale, own_transposed =
        positional.quantize(x, format, blocksize, "nearest", known, hardware, "f32")
      same_bytes(codes, own)
      same_bytes(scale, own_scale)
      if hardware then same_bytes(transposed, own_transposed) end
      support.close(sum, sums)
      local values
      values, sum, scale =
        positional.fake_quantize(there, format, blocksize, "nearest", known_there, nil, x.dtype, true)
      same_bytes(values, (positional.fake_quantize(x, format, blocksize, "nearest", known)))
      same_bytes(scale, own_scale)
      support.close(sum, sums)
      same_bytes(positional.fake_quantize(there, format, blocksize, "nearest", known_there, "f32"),
        (positional.fake_quantize(x, format, blocksize, "nearest", known, "f32")))
      return own_scale
    end

    for name, format in support.sorted_pairs(formats) do
      it("is the same everywhere, measured or with known scales: " .. name, function()
        fp8.manual_seed(31)
        for _, shape in ipairs(shapes) do
          for _, dtype in ipairs {"f32", "bf16", "f16"} do
            local x = matrix(shape, dtype)
            local count = x:numel()
            for _, blocksize in ipairs {64, shape[2], 4096, count} do
              blocksize = blocksize < count and blocksize or nil
              local scale = compare(x, format, blocksize)
              compare(x, format, blocksize, scale)
            end
          end
        end
      end)
    end

    it("is +0 for blocks of zeros, whatever their signs", function()
      local x = (fp8.zeros(2, 4096) * -1):to("bf16"):to(device)
      for _, rounding in ipairs {"nearest", "stochastic"} do
        for _, blocksize in ipairs {32, 1024, 4096} do
          local quantizer = core.quantizer {format = "e4m3", blocksize = blocksize, rounding = rounding}
          local codes = core.quantize(x, quantizer, "codes"):to("cpu")
          assert.is_true(support.bytes(codes) == ("\0"):rep(8192), rounding .. ", " .. blocksize)
        end
      end
    end)

    it("sums the columns of many rows, too", function()
      fp8.manual_seed(35)
      for _, dtype in ipairs {"f32", "bf16"} do
        local x = matrix({1026, 1024}, dtype)
        for _, name in ipairs {"e4m3_map", "e5m2"} do
          for _, blocksize in ipairs {256, 1024, 2048, 4096, false} do compare(x, formats[name], blocksize or nil) end
        end
        local wide = matrix({1040, 4096}, dtype)
        for _, name in ipairs {"dynamic", "e4m3"} do
          for _, blocksize in ipairs {1024, 4096} do compare(wide, formats[name], blocksize) end
        end
      end
    end)

    it("repeats the scale of a whole tensor", function()
      for _, shape in ipairs {{64, 256}, {3, 5}, {1, 32768}, {0, 4}} do
        local x = fp8.randn(shape)
        local there = x:to(device)
        local codes, scale, transposed = positional.quantize(there, "e4m3", nil, nil, nil, true, nil, 300)
        local own, own_scale, own_transposed = positional.quantize(x, "e4m3", nil, nil, nil, true)
        same_bytes(codes, own)
        same_bytes(transposed, own_transposed)
        assert.same({300}, scale.shape)
        if x:numel() > 0 then support.equal(scale, own_scale:expand(300)) end
      end
      assert.has_error(function() positional.quantize(fp8.ones(4, 64), "e4m3", 64, nil, nil, nil, nil, 4) end)
      assert.has_error(function() positional.quantize(fp8.ones(4, 64), "e4m3", nil, nil, nil, nil, nil, -1) end)
    end)

    it("does not depend on where a tensor begins", function()
      fp8.manual_seed(32)
      for _, dtype in ipairs {"f32", "bf16"} do
        local x = matrix({4099}, dtype)
        local there = x:to(device)
        for offset = 1, 3 do
          for _, format in support.sorted_pairs(formats) do
            local codes = positional.quantize(there:narrow(1, offset, 4096), format, 256)
            same_bytes(codes, (positional.quantize(x:narrow(1, offset, 4096), format, 256)))
          end
        end
      end
    end)

    it("keeps what is broken, empty or tiny to its blocks", function()
      fp8.manual_seed(33)
      for _, dtype in ipairs {"f32", "bf16"} do
        for _, columns in ipairs {256, 2048} do
          for _, format in support.sorted_pairs(formats) do
            local x = matrix({64, columns}, dtype)
            x:narrow(1, 3, 1):fill_(0)
            x:narrow(1, 5, 1):mul_(1e-30):mul_(1e-9)
            x:narrow(1, 7, 1):narrow(2, 9, 1):fill_(0 / 0)
            x:narrow(1, 40, 1):narrow(2, 256, 1):fill_(-math.huge)
            local hardware = type(format) == "string"
            local there = x:to(device)
            local codes, scale, transposed = positional.quantize(there, format, columns, "nearest", nil, hardware)
            local own, own_scale, own_transposed = positional.quantize(x, format, columns, "nearest", nil, hardware)
            same_bytes(codes, own)
            support.equal(scale, own_scale)
            if hardware then same_bytes(transposed, own_transposed) end
            support.equal(positional.fake_quantize(there, format, columns),
              (positional.fake_quantize(x, format, columns)))
            support.equal(positional.fake_quantize(there, format), (positional.fake_quantize(x, format)))
          end
        end
      end
    end)

    it("takes what a known scale sends beyond float32's range to the ends of a map", function()
      local x = fp8.tensor({1e30, -1e30}, {device = device})
      local known = fp8.tensor({1e-30}, {device = device})
      support.equal(positional.fake_quantize(x, maps.e4m3, nil, "nearest", known), fp8.tensor {1e-30, -1e-30})
    end)

    it("divides by absmax exactly, whatever it is", function()
      fp8.manual_seed(34)
      for _, dtype in ipairs {"f32", "bf16"} do
        for _, factor in ipairs {1, 3e-7, 1e-20, 1e-36, 7e4, 1e12, 1e30} do
          local x = (matrix({300, 256}, "f32") * factor):to(dtype)
          x:view(-1):narrow(1, 10, 4):copy_(fp8.tensor {1e-45, -1e-45, 1e-42, -1e-42})
          for _, name in ipairs {"e4m3", "dynamic", "linear"} do
            same_bytes(positional.quantize(x:to(device), maps[name]), (positional.quantize(x, maps[name])))
          end
        end
      end
    end)
  end)

  if device ~= "cpu" then
    it("gives transposed codes and sums of columns in a graph as outside of one, time after time", function()
      fp8.manual_seed(36)
      local rows = core.quantizer {format = "e4m3", blocksize = 2048}
      local along = core.quantizer {format = "e4m3", blocksize = {1, 128}}
      local down = core.quantizer {format = "e4m3", blocksize = {128, 1}}
      local x = fp8.randn(1040, 2048):to("bf16"):to(device)
      local function made()
        local codes, scale, transposed = core.quantize(x, rows, "codes scale transposed")
        local again, _, sum = core.quantize(x, rows, "codes scale sum", {sum_dtype = "f32"})
        local one, _, other, _, sum_of_both = core.quantize_both_ways(x, along, down, "f32")
        return codes, scale, transposed, again, sum, one, other, sum_of_both, core.sum(x, 1)
      end
      local graph = fp8.cuda.graph(made, device)
      for factor = 1, 3 do
        core.copy_(x, (fp8.randn(1040, 2048) * factor):to("bf16"):to(device))
        local replayed, expected = {graph()}, {made()}
        for i = 1, 9 do same_bytes(replayed[i], expected[i]) end
      end
    end)

    describe("a million values", function()
      local formats = {"e4m3", "e5m2", "dynamic", "short", "powers", "random1", "random2"}
      for _, name in ipairs(formats) do
        it("have the CPU's codes, bit for bit: " .. name, function()
          for _, dtype in ipairs {"f32", "f16", "bf16"} do
            fp8.manual_seed(21)
            local x = (fp8.randn(1000000) * fp8.randn(1000000):exp()):to(dtype)
            for _, rounding in ipairs {"nearest", "stochastic"} do
              for _, blocksize in ipairs {64, 1024, 4096} do
                fp8.manual_seed(4)
                local there, state = fp8.quantize_blockwise(x:to(device), maps[name], blocksize, {rounding = rounding})
                fp8.manual_seed(4)
                local here, own = fp8.quantize_blockwise(x, maps[name], blocksize, {rounding = rounding})
                assert.equal(0, there:to("cpu"):ne(here):sum():item())
                assert.equal(0, state.absmax:to("cpu"):ne(own.absmax):sum():item())
              end
              fp8.manual_seed(4)
              local there = fp8.quantize(x:to(device), maps[name], {rounding = rounding})
              fp8.manual_seed(4)
              local here = fp8.quantize(x, maps[name], {rounding = rounding})
              assert.equal(0, there:to("cpu"):ne(here):sum():item())
            end
          end
        end)
      end
    end)
  end
end)

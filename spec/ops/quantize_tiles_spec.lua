-- Scales of tiles, and scales that are powers of two, against the slow reference and the MX specification.
local fp8 = require "fp8"
local reference = require "spec.support.reference"
local positional = require "spec.support.positional"
local support = require "spec.support"

local fails = support.fails

local map = fp8.create_map(true, 4, 3, 8)
local map_list = reference.map(true, 4, 3)
local formats = {{map, map_list}, {fp8.create_map(true, 5, 2, 8), reference.map(true, 5, 2)}, {"e4m3", "e4m3"},
  {"e5m2", "e5m2"}}

local function tiles_of(rows, columns, tile)
  return math.ceil(rows / tile[1]) * math.ceil(columns / tile[2])
end

support.each_device(function(device)
  describe("Tiles", function()
    before_each(function() fp8.manual_seed(11) end)

    local function matrix(rows, columns, dtype)
      local x = fp8.randn(rows, columns) * (fp8.randn(rows, 1) * 1.5):exp() * fp8.randn(columns):exp()
      return x:to(dtype):to(device)
    end

    --- Compares codes, scales, values and sums of one quantization with the reference and with one another.
    local function check(x, format, list, tile, scale_rounding)
      local rows, columns = x.shape[1], x.shape[2]
      local expected = reference.fake_quantize(support.flat(x), list, tile, {rows, columns}, x.dtype, scale_rounding)
      expected = fp8.tensor(expected):view(rows, columns)
      local values, sum, scale = positional.fake_quantize(x, format, tile, nil, nil, nil, "f32", true, scale_rounding)
      support.equal(values, expected)
      support.close(sum, x:to("f32"):sum(1))
      assert.same({tiles_of(rows, columns, tile)}, scale.shape)
      local transposing = type(format) == "string"
      local codes, again, transposed =
        positional.quantize(x, format, tile, nil, nil, transposing, nil, nil, scale_rounding)
      support.equal(again, scale)
      support.equal(positional.dequantize(codes, scale, format, tile, x.dtype), expected)
      if transposing then support.equal(transposed:to("f32"), codes:to("f32"):t()) end
      support.equal((positional.fake_quantize(x, format, tile, nil, scale)), expected)
      local wide = positional.fake_quantize(x, format, tile, nil, nil, "f32", nil, nil, scale_rounding)
      support.equal(wide:to(x.dtype), expected)
    end

    local shapes = {{1, 1}, {1, 300}, {70, 1}, {33, 47}, {64, 128}, {130, 264}, {257, 16}, {5, 1000}, {300, 24}}
    local tiles = {
      {1, 128}, {128, 128}, {1, 32}, {32, 1}, {128, 1}, {2 ^ 52, 1}, {1, 1}, {3, 5}, {2, 2}, {16, 8}, {100, 40},
      {200, 3}, {129, 257}, {2 ^ 52, 2 ^ 52}, {1, 2 ^ 52}, {4, 2 ^ 52},
    }
    for _, tile in ipairs(tiles) do
      it(("of %g x %g have the reference's values in every shape and dtype"):format(tile[1], tile[2]), function()
        local random = support.random(tile[1] % 1000 + tile[2] % 1000)
        for _, shape in ipairs(shapes) do
          local format = formats[random(4)]
          local rounding = ({"none", "power_of_two", type(format[1]) == "string" and "mx" or nil})[random(3)]
          check(matrix(shape[1], shape[2], ({"f32", "f16", "bf16"})[random(3)]), format[1], format[2], tile, rounding)
        end
      end)
    end

    it("of random sizes have them too", function()
      local random = support.random(5)
      for _ = 1, 40 do
        local format = formats[random(4)]
        local tile = {random(2) == 1 and random(150) or random(8), random(2) == 1 and random(300) or random(8)}
        check(matrix(random(150), random(300), ({"f32", "f16", "bf16"})[random(3)]), format[1], format[2], tile)
      end
    end)

    it("that are rows, parts of rows or everything are the blocks of that length", function()
      local x = matrix(24, 256, "bf16")
      for _, case in ipairs {{{1, 64}, 64}, {{1, 256}, 256}, {{3, 256}, 768}, {{24, 999}, 24 * 256}} do
        local tile, blocksize = unpack(case)
        for _, format in ipairs(formats) do
          local codes, scale = positional.quantize(x, format[1], tile)
          local same_codes, same_scale = positional.quantize(x, format[1], blocksize)
          support.equal(codes:to("f32"), same_codes:to("f32"))
          support.equal(scale, same_scale)
        end
      end
    end)

    it("cut all but the last dimension as one", function()
      local x = fp8.randn(3, 10, 40, {device = device})
      local codes, scale = positional.quantize(x, "e4m3", {8, 16})
      local flat_codes, flat_scale = positional.quantize(x:view(30, 40), "e4m3", {8, 16})
      support.equal(codes:view(30, 40):to("f32"), flat_codes:to("f32"))
      support.equal(scale, flat_scale)
      local values = positional.fake_quantize(fp8.randn(40, 30, {device = device}):t(), map, {8, 16})
      assert.same({30, 40}, values.shape)
      for _, shape in ipairs {{0, 8}, {8, 0}, {}} do
        local empty = fp8.zeros(shape, {device = device})
        assert.same(shape, positional.fake_quantize(empty, map, {2, 2}).shape)
      end
    end)

    it("with a NaN or an infinity become NaN, whole, and no others", function()
      for _, format in ipairs(formats) do
        for _, tile in ipairs {{8, 16}, {32, 1}, {2 ^ 52, 1}, {3, 5}} do
          for _, bad in ipairs {0 / 0, math.huge, -math.huge} do
            local x = matrix(40, 64, "bf16")
            x[10]:narrow(1, 20, 1):fill_(bad)
            local values = positional.fake_quantize(x, format[1], tile):totable()
            for i = 1, 40 do
              for j = 1, 64 do
                local inside = math.floor((i - 1) / tile[1]) == math.floor(9 / tile[1]) and
                  math.floor((j - 1) / tile[2]) == math.floor(19 / tile[2])
                assert.equal(inside, values[i][j] ~= values[i][j])
              end
            end
          end
        end
      end
    end)

    it("of zeros give zeros, and the smallest numbers survive", function()
      for _, format in ipairs(formats) do
        local x = fp8.zeros(20, 30, {device = device})
        support.equal(positional.fake_quantize(x, format[1], {8, 8}), x)
        x = (fp8.randn(20, 30) * 1e-40):to(device)
        check(x, format[1], format[2], {8, 8})
      end
    end)

    it("are rounded stochastically as on the CPU, to neighbours", function()
      for _, format in ipairs(formats) do
        for _, dtype in ipairs {"f32", "bf16"} do
          local x = matrix(100, 136, dtype)
          for _, tile in ipairs {{32, 1}, {1, 100}, {16, 16}} do
            fp8.manual_seed(3)
            local values = positional.fake_quantize(x, format[1], tile, "stochastic", nil, "f32")
            fp8.manual_seed(3)
            support.equal(values, (positional.fake_quantize(x:to("cpu"), format[1], tile, "stochastic", nil, "f32")))
            local nearest = positional.fake_quantize(x, format[1], tile, "nearest", nil, "f32")
            assert.is_true(support.error(values, nearest) > 1e-3)
            assert.is_true(support.error(values, nearest) < 0.2)
          end
        end
      end
    end)

    if device ~= "cpu" then
      it("have the CPU's bits in large tensors", function()
        for _, tile in ipairs {{1, 128}, {128, 128}, {32, 1}, {128, 1}, {2 ^ 52, 1}, {256, 256}, {1, 96}, {7, 3}} do
          for _, dtype in ipairs {"f32", "f16", "bf16"} do
            local x = fp8.randn(1031, 2056):to(dtype)
            for _, format in ipairs(formats) do
              local codes, scale = positional.quantize(x:to(device), format[1], tile)
              local own, own_scale = positional.quantize(x, format[1], tile)
              assert.equal(0, codes:to("cpu"):to("f32"):ne(own:to("f32")):sum():item())
              assert.equal(0, scale:to("cpu"):ne(own_scale):sum():item())
            end
          end
        end
      end)
    end

    it("refuse what they are not", function()
      local x = fp8.zeros(4, 4, {device = device})
      for _, wrong in ipairs {{}, {1}, {1, 2, 3}, {0, 1}, {1, -1}, {1.5, 1}, {1, 0 / 0}, {"2", 2}, {1, 2 ^ 60}} do
        fails("tile", positional.quantize, x, "e4m3", wrong)
        fails("tile", positional.fake_quantize, x, "e4m3", wrong)
        fails("tile", positional.dequantize, x:to("e4m3"), x, "e4m3", wrong)
      end
      fails("(4)", positional.dequantize, x:to("e4m3"), fp8.zeros(3, {device = device}), "e4m3", {2, 2})
      fails("(4)", positional.quantize, x, "e4m3", {2, 2}, nil, fp8.zeros(5, {device = device}))
      fails("scale rounding", positional.quantize, x, "e4m3", nil, nil, nil, nil, nil, nil, "up")
    end)
  end)

  describe("A scale that is a power of two", function()
    it("is the smallest with which nothing saturates", function()
      for _, format in ipairs(formats) do
        local largest = ({e4m3 = 448, e5m2 = 57344})[format[1]] or 1
        local absmax = {}
        for exponent = -120, 120, 8 do
          for _, factor in ipairs {1, 1 + 2 ^ -23, 1.5, 1.75, 1.75 * (1 + 2 ^ -23), 2 - 2 ^ -23} do
            table.insert(absmax, reference.f32(factor * 2 ^ exponent))
          end
        end
        local x = fp8.tensor(absmax):view(-1, 1):to(device)
        local _, scale = positional.quantize(x, format[1], {1, 1}, nil, nil, nil, nil, nil, "power_of_two")
        for i, value in ipairs(scale:totable()) do
          local mantissa = math.frexp(value)
          assert.equal(0.5, mantissa)
          if value > 2 ^ -126 then assert.is_true(absmax[i] > value / 2 * largest * (1 - 2 ^ -24)) end
          assert.is_true(absmax[i] <= value * largest)
        end
      end
    end)

    it("stays between 2^-126 and 2^127", function()
      local x = fp8.tensor({{1e-44}, {1e-38}, {3e38}, {2 ^ 127}, {0}}, {device = device})
      for _, format in ipairs(formats) do
        for _, blocks in ipairs {1, false} do
          local values, _, scale = positional.fake_quantize(x, format[1], blocks or {1, 1}, nil, nil, nil, nil, true,
            "power_of_two")
          local expected = {}
          for i, value in ipairs(support.flat(x)) do
            expected[i] = reference.scale(value, format[2], "power_of_two")
          end
          assert.same(expected, scale:totable())
          expected = reference.fake_quantize(support.flat(x), format[2], 1, {5, 1}, "f32", "power_of_two")
          support.equal(values, fp8.tensor(expected):view(5, 1))
        end
        local huge = fp8.rand(16, 64, {device = device}) * 3e38
        local expected = reference.fake_quantize(support.flat(huge), format[2], 64, {16, 64}, "f32", "power_of_two")
        support.equal(positional.fake_quantize(huge, format[1], 64, nil, nil, nil, nil, nil, "power_of_two"),
          fp8.tensor(expected):view(16, 64))
      end
    end)

    it("serves blocks, rows and whole tensors as well", function()
      fp8.manual_seed(4)
      for _, dtype in ipairs {"f32", "bf16"} do
        local x = (fp8.randn(48, 256) * fp8.randn(48, 1):exp()):to(dtype):to(device)
        for _, format in ipairs(formats) do
          for _, blocksize in ipairs {64, 256, 1000, false} do
            for _, rounding in ipairs {"power_of_two", type(format[1]) == "string" and "mx" or nil} do
              local expected = reference.fake_quantize(support.flat(x), format[2], blocksize or "tensor", {48, 256},
                dtype, rounding)
              support.equal(positional.fake_quantize(x, format[1], blocksize or nil, nil, nil, nil, nil, nil, rounding),
                fp8.tensor(expected):view(48, 256))
            end
          end
        end
      end
    end)
  end)

  describe("The MX specification's numbers", function()
    local fixture = fp8.load(support.fixture "mx.safetensors")
    for _, format in ipairs {"e4m3", "e5m2"} do
      it("are those of " .. format, function()
        local x = fixture.x:to(device)
        local codes, scale = positional.quantize(x, format, {1, 32}, nil, nil, nil, nil, nil, "mx")
        support.equal(scale, fixture[format .. ".scale"])
        local values = positional.dequantize(codes, scale, format, {1, 32})
        support.equal(values, fixture[format .. ".values"])
        assert.is_true(support.bytes(codes) == support.bytes(fixture[format .. ".codes"]))
        -- Along rows of the transposed matrix.
        local turned = positional.fake_quantize(x:t():contiguous(), format, {32, 1}, nil, nil, nil, nil, nil, "mx")
        support.equal(turned:t(), fixture[format .. ".values"])
      end)
    end
  end)
end)

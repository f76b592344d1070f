-- Values of quantization in small blocks, of Hadamard transforms too, in one way and in two: those of a transform and a
-- quantization one after the other on the CPU, to the last bit.
local fp8 = require "fp8"
local core = require "fp8.core"
local support = require "spec.support"

local fails = support.fails
local matrix, same = support.uneven_matrix, support.equal_with_signs

support.each_device(function(device)
  describe("quantize_values on " .. device, function()
    before_each(function() fp8.manual_seed(4) end)

    local signs = "+-++-+---+-++--+"

    -- A way: tile, fields of core.quantizer, and length, direction and signs of a transform.
    local function way(rows, columns, fields, length, down, of_signs)
      return {tile = {rows, columns}, fields = fields or {}, length = length, down = down or false, signs = of_signs}
    end

    local function quantizer(format, one)
      local fields = {format = format, blocksize = one.tile}
      for name, value in pairs(one.fields) do fields[name] = value end
      return core.quantizer(fields)
    end

    local function in_steps(x, format, one, dtype)
      if one.length then x = core.hadamard(x, one.length, one.down, one.signs) end
      return (core.quantize(x, quantizer(format, one), "values", {dtype = dtype}))
    end

    -- x is on the CPU.
    local function check(x, format, ways, dtype)
      local arguments, expected = {x:to(device), dtype, "f32"}, {}
      fp8.manual_seed(9)
      for i, one in ipairs(ways) do
        expected[i] = in_steps(x, format, one, dtype)
        local first = 4 * i
        arguments[first], arguments[first + 1] = quantizer(format, one), one.length
        arguments[first + 2], arguments[first + 3] = one.down, one.signs
      end
      fp8.manual_seed(9)
      local results = {core.quantize_values(unpack(arguments, 1, 3 + 4 * #ways))}
      assert.equal(#ways + 1, #results)
      for i in ipairs(ways) do
        assert.equal(dtype or x.dtype, results[i].dtype)
        same(results[i]:to("cpu"), expected[i])
      end
      return results[#results]
    end

    local mx, nvfp4 = {scale_rounding = "mx"}, {scale_rounding = "e4m3", second_scale = "tensor"}
    local function stochastic(fields)
      local copy = {rounding = "stochastic"}
      for name, value in pairs(fields) do copy[name] = value end
      return copy
    end

    local shapes = {{64, 96}, {7, 104}, {100, 40}, {40, 64}, {33, 200}, {16, 16}, {130, 136}, {9, 33}}

    for name, ways in support.sorted_pairs {
      ["rows of 16"] = {way(1, 16, nvfp4)},
      ["rows of 32"] = {way(1, 32, mx)},
      ["columns of 32"] = {way(32, 1, mx)},
      ["columns of 16"] = {way(16, 1, nvfp4)},
      ["squares of 16"] = {way(16, 16, nvfp4)},
      ["squares without a second scale"] = {way(16, 16, {scale_rounding = "e4m3"})},
      ["rows and columns of 32"] = {way(1, 32, mx), way(32, 1, {scale_rounding = "rceil"})},
      ["rows and columns with other scales"] = {way(1, 64), way(64, 1, {headroom = 1.5})},
      ["rows, and transformed columns"] = {way(1, 16, nvfp4), way(16, 1, nvfp4, 16, true, signs)},
      ["transformed rows, and columns"] = {way(1, 16, nvfp4, 32), way(16, 1, {scale_rounding = "ceil"})},
      ["transforms of 64 along rows"] = {way(1, 32, mx, 64)},
      ["transforms of 64 down columns"] = {way(32, 1, mx, 64, true)},
      ["transforms of 128 along rows"] = {way(1, 32, {scale_rounding = "even"}, 128)},
      ["transforms of 128 down columns"] = {way(32, 1, mx, 128, true)},
      ["both ways that need too many rows and columns"] = {way(1, 32, mx, 64), way(32, 1, mx, 64, true)},
      ["a scale a row above"] = {way(1, 16, {scale_rounding = "e4m3", second_scale = "row"}), way(8, 1, mx)},
      ["a constant scale"] = {way(1, 16, {constant_scale = 0.125}), way(16, 1, {constant_scale = 3})},
    } do
      for rounding, change in pairs {nearest = function(fields) return fields end, stochastic = stochastic} do
        it(("gives those of each step, by %s, to %s"):format(name, rounding), function()
          local formats = {"e2m1", "e4m3", "e2m3", "e5m2", "e3m2", "int8", "int4", "nf4"}
          local changed = {}
          for i, one in ipairs(ways) do
            changed[i] = way(one.tile[1], one.tile[2], change(one.fields), one.length, one.down, one.signs)
          end
          for i, shape in ipairs(shapes) do
            local dtype = ({"bf16", "f32", "f16"})[i % 3 + 1]
            local x = matrix(shape[1], shape[2], dtype)
            local sum = check(x, formats[i], changed, dtype == "f32" and i > 4 and "bf16" or nil)
            support.close(sum, core.sum(x:to "f32", 1))
          end
          check(matrix(64, 96, "bf16"), "e2m1", changed)
          -- Shapes that patches of 64 columns divide.
          for i, shape in ipairs {{64, 64}, {96, 192}, {256, 128}, {32, 320}} do
            local sum_of = matrix(shape[1], shape[2], ({"bf16", "f16"})[i % 2 + 1])
            support.close(check(sum_of, ({"e2m1", "e4m3", "e2m1", "e5m2"})[i], changed), core.sum(sum_of:to "f32", 1))
          end
        end)
      end

      it("makes blocks with a NaN or an infinity NaN, and keeps zeros and small numbers, by " .. name, function()
        local at_random = {}
        for i, one in ipairs(ways) do
          at_random[i] = way(one.tile[1], one.tile[2], stochastic(one.fields), one.length, one.down, one.signs)
        end
        for i, bad in ipairs {0 / 0, math.huge, -math.huge, 0} do
          for k, dtype in ipairs {"bf16", "f32", "f16", "bf16", "f16"} do
            local x = matrix(k > 3 and 192 or 136, k > 3 and 256 or 144, dtype)
            x[10]:narrow(1, 20, 1):fill_(bad)
            x[20]:fill_(0)
            x:narrow(1, 65, 32):narrow(2, 33, 64):mul_(-0)
            x:narrow(1, 65, 32):narrow(2, 113, 32):fill_(dtype == "f16" and 6e-8 or 1e-40)
            x:narrow(1, 98, 2):fill_(dtype == "f16" and -6e4 or -3e38)
            check(x, ({"e2m1", "e4m3", "e5m2", "e3m2"})[i], ways)
            if k > 3 then check(x, ({"e2m1", "e4m3", "e5m2", "e2m1"})[i], at_random) end
          end
        end
      end)
    end

    it("gives codes and scales of columns and tiles as the CPU does", function()
      for _, tile in ipairs {{16, 1}, {32, 1}, {16, 16}, {1, 16}, {8, 32}} do
        for _, format in ipairs {"e2m1", "e4m3", "e5m2", "int8"} do
          for _, rounding in ipairs {"nearest", "stochastic"} do
            local x = matrix(72, 112, "bf16")
            local made = core.quantizer {format = format, blocksize = tile, scale_rounding = "mx", rounding = rounding}
            fp8.manual_seed(3)
            local codes, scale = core.quantize(x, made, "codes scale")
            fp8.manual_seed(3)
            local others, other_scale = core.quantize(x:to(device), made, "codes scale")
            support.equal(others:to("f32"):to("cpu"), codes:to("f32"))
            support.equal(other_scale:to("cpu"), scale)
          end
        end
      end
    end)

    if device ~= "cpu" then
      it("draws the numbers that come next at every replay of a graph", function()
        local one, other = way(1, 16, stochastic(nvfp4)), way(16, 1, stochastic(nvfp4), 16, true, signs)
        local x = matrix(64, 96, "bf16"):to(device)
        for _, format in ipairs {"e2m1", "e4m3"} do
          local function both()
            local first = core.quantize(x, quantizer(format, one), "values")
            return first, core.quantize_values(x, nil, nil, quantizer(format, one), nil, nil, nil,
              quantizer(format, other), 16, true, signs)
          end
          local graph = fp8.cuda.graph(both, device)
          fp8.manual_seed(5)
          local expected = {}
          for i = 1, 3 do expected[i] = {both()} end
          local after = fp8.rand(1)
          fp8.manual_seed(5)
          for i = 1, 3 do
            local values = {graph()}
            for k = 1, 3 do same(values[k], expected[i][k]) end
          end
          support.equal(fp8.rand(1), after)
        end
      end)

      it("draws signs at every replay of a graph", function()
        local one, x = way(32, 1, stochastic(mx)), matrix(64, 96, "bf16"):to(device)
        local made = quantizer("e2m1", one)
        local function transformed()
          local drawn = core.draw_signs(64)
          return core.quantize_values(x, nil, nil, made, 64, true, drawn), core.quantize_values(x, nil, nil, made, 64,
            false, drawn)
        end
        local graph = fp8.cuda.graph(transformed, device)
        fp8.manual_seed(5)
        local expected = {{transformed()}, {transformed()}}
        fp8.manual_seed(5)
        for i = 1, 2 do
          local first, second = graph()
          same(first, expected[i][1])
          same(second, expected[i][2])
        end
        fails("are for quantizations in small blocks", core.quantize_values, x, nil, nil, made, 64, true, 1)
        fails("are for quantizations in small blocks", core.hadamard, x, 64, true, 1)
      end)
    end

    it("takes views, other dimensions and tensors without elements", function()
      local made = quantizer("e2m1", way(1, 16, mx))
      local x = fp8.randn(3, 8, 32, {device = device})
      local function values_of(tensor) return (core.quantize_values(tensor, nil, nil, made)) end
      support.equal(values_of(x):view(24, 32), values_of(x:view(24, 32)))
      local turned = x[1]:t()
      support.equal(values_of(turned), values_of(turned:contiguous()))
      local empty = fp8.zeros(0, 16, {device = device})
      local values, others, sum =
        core.quantize_values(empty, nil, "f32", made, nil, nil, nil, made, 16, true)
      assert.same({0, 16}, values.shape)
      assert.same({0, 16}, others.shape)
      support.equal(sum, fp8.zeros(16))
    end)

    it("names what is wrong", function()
      local x, made = fp8.randn(4, 16, {device = device}), quantizer("e2m1", way(1, 16, mx))
      fails("quantizer expected, got nil", core.quantize_values, x)
      fails("16, 32, 64 or 128 expected, got 8", core.quantize_values, x, nil, nil, made, 8)
      fails("16 signs expected, got 2", core.quantize_values, x, nil, nil, made, 16, false, "+-")
      fails("dtype must be f32, f16 or bf16, got i64", core.quantize_values, x, "i64", nil, made)
    end)
  end)
end)

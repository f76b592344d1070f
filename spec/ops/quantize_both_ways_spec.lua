-- Codes along rows and, transposed, along columns in one go: those of one quantization after the other.
local fp8 = require "fp8"
local core = require "fp8.core"
local support = require "spec.support"

local fails = support.fails
local all_rows = 2 ^ 52

support.each_device(function(device)
  describe("quantize_both_ways on " .. device, function()
    before_each(function() fp8.manual_seed(4) end)

    local function matrix(rows, columns, dtype)
      local x = fp8.randn(rows, columns) * (fp8.randn(rows, 1) * 1.5):exp() * fp8.randn(columns):exp()
      return x:to(dtype):to(device)
    end

    local function quantizer(format, blocksize, scale_rounding, rounding)
      return core.quantizer {
        format = format, blocksize = blocksize, scale_rounding = scale_rounding, rounding = rounding,
      }
    end

    -- With the signs of zeros.
    local function same_codes(codes, expected)
      support.equal(codes:to("f32"), expected:to("f32"))
      support.equal(1 / codes:to("f32"), 1 / expected:to("f32"))
    end

    -- Both codes, scales and, unless x is broken, sums against those of core.quantize.
    local function check(x, along_rows, along_columns, broken)
      local rows, columns = x.shape[1], x.shape[2]
      local codes, scale, transposed, turned_scale, sum = core.quantize_both_ways(x, along_rows, along_columns, "f32")
      local expected, expected_scale = core.quantize(x, along_rows, "codes scale")
      local turned, expected_turned = core.quantize(x, along_columns, "transposed scale")
      same_codes(codes, expected)
      same_codes(transposed, turned)
      support.equal(scale:contiguous():view(expected_scale.shape), expected_scale)
      if turned_scale:dim() == 2 then turned_scale = turned_scale:t():contiguous() end
      support.equal(turned_scale:view(expected_turned.shape), expected_turned)
      assert.same({columns, rows}, transposed.shape)
      if not broken then support.close(sum, core.sum(x:to "f32", 1)) end
      local again = {core.quantize_both_ways(x, along_rows, along_columns)}
      assert.equal(4, #again)
      same_codes(again[3], turned)
    end

    local shapes = {
      {16, 16}, {128, 128}, {144, 272}, {400, 144}, {1, 1}, {1, 300}, {70, 1}, {33, 47}, {130, 256}, {256, 130},
    }

    for name, kinds in support.sorted_pairs {
      runs = function() return {1, 128}, {128, 1} end,
      rows = function(columns) return columns, {all_rows, 1} end,
      ["short runs"] = function() return {1, 32}, {32, 1} end,
      ["rows and runs"] = function(columns) return columns, {128, 1} end,
      ["everything"] = function() return nil, nil end,
      squares = function() return {128, 128}, {64, 16} end,
      ["the same squares"] = function() return {128, 128}, {128, 128} end,
    } do
      for _, dtype in ipairs {"f32", "f16", "bf16"} do
        it(("gives the codes of both, by %s, %s"):format(name, dtype), function()
          for i, shape in ipairs(shapes) do
            local x = matrix(shape[1], shape[2], dtype)
            local first, second = kinds(shape[2])
            local format = i % 2 == 0 and "e4m3" or "e5m2"
            local rounding = ({"none", "power_of_two", "mx"})[i % 3 + 1]
            check(x, quantizer(format, first, rounding), quantizer(format, second, "none"))
            check(x, quantizer(format, first, "none"), quantizer(format, second, rounding))
          end
        end)
      end

      it("makes a row or column with a NaN or an infinity NaN, and zeros of zeros, by " .. name, function()
        for _, dtype in ipairs {"f32", "f16", "bf16"} do
          for _, bad in ipairs {0 / 0, math.huge, -math.huge} do
            local x = matrix(272, 144, dtype)
            x[10]:narrow(1, 20, 1):fill_(bad)
            x[200]:fill_(0)
            x:select(2, 77):fill_(0)
            x:select(2, 78):mul_(-0)
            x:select(2, 79):fill_(dtype == "f16" and 6e-8 or 1e-40)
            x[201]:fill_(dtype == "f16" and -6e-8 or -1e-40)
            local first, second = kinds(144)
            check(x, quantizer("e4m3", first), quantizer("e4m3", second), true)
            check(x, quantizer("e5m2", first, "power_of_two"), quantizer("e5m2", second, "power_of_two"), true)
          end
        end
      end)
    end

    it("gives those of a matrix that no device holds at once", function()
      local x = matrix(2688, 2576, "bf16")
      check(x, quantizer("e4m3", 2576), quantizer("e4m3", {all_rows, 1}, "power_of_two"))
      check(x, quantizer("e4m3", {1, 128}), quantizer("e4m3", {128, 1}))
      x[2000]:narrow(1, 20, 1):fill_(0 / 0)
      check(x, quantizer("e5m2", 2576), quantizer("e5m2", {all_rows, 1}), true)
    end)

    it("takes other formats, dimensions, strides and roundings as they come", function()
      local x = matrix(64, 96, "bf16")
      check(x, quantizer("e4m3", {1, 128}), quantizer("e5m2", {128, 1}))
      check(x:t(), quantizer("e4m3", 64), quantizer("e4m3", {all_rows, 1}))
      local codes, scale, transposed, other =
        core.quantize_both_ways(x:view(4, 16, 96), quantizer("e4m3", 96), quantizer("e4m3", {all_rows, 1}))
      assert.same({4, 16, 96}, codes.shape)
      assert.same({96, 64}, transposed.shape)
      assert.same({64}, scale.shape)
      assert.same({96}, other.shape)
      local empty = {core.quantize_both_ways(fp8.zeros(0, 16, {device = device}), quantizer("e4m3", {1, 128}),
        quantizer("e4m3", {128, 1}), "f32")}
      assert.same({0, 16}, empty[1].shape)
      assert.same({16, 0}, empty[3].shape)
      support.equal(empty[5], fp8.zeros(16))
      local stochastic = quantizer("e4m3", 96, nil, "stochastic")
      assert.equal("e4m3", core.dtype((core.quantize_both_ways(x, stochastic, stochastic))))
    end)

    it("refuses what can't be transposed or is no matrix of floats", function()
      local x, map = matrix(16, 16, "bf16"), fp8.create_map(true, 4, 3, 8)
      fails("only codes of e4m3 and e5m2 can be transposed", core.quantize_both_ways, x, quantizer(map), quantizer(map))
      fails("dtype must be f32, f16 or bf16, got i64", core.quantize_both_ways, x:to("i64"), quantizer("e4m3"),
        quantizer("e4m3"))
      fails("quantizer expected, got nil", core.quantize_both_ways, x, quantizer("e4m3"))
    end)
  end)
end)

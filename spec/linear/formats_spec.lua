-- Formats with names, maps of floating-point numbers, every scale and the Hadamard transform, against the slow
-- reference.
local core = require "fp8.core"
local fp8 = require "fp8"
local philox = require "spec.support.philox"
local reference = require "spec.support.reference"
local support = require "spec.support"

local fails, f32 = support.fails, reference.f32
local small = {"e2m1", "e2m3", "e3m2", "int8", "int4", "nf4"}
local all = {"e4m3", "e5m2", "e2m1", "e2m3", "e3m2", "int8", "int4", "nf4"}

--- All numbers of a format, ascending.
local function numbers_of(format)
  local values, previous = {}, nil
  if format == "e4m3" or format == "e5m2" then
    local codes = fp8.empty(256, {dtype = format})
    for i = 0, 255 do codes:data()[i] = i end
    for _, value in ipairs(codes:to("f32"):totable()) do
      if value - value == 0 then values[#values + 1] = value end
    end
  else
    local codes = fp8.arange(256, {dtype = "u8"})
    local state = {absmax = fp8.ones(1), map = format, dtype = "f32"}
    values = fp8.dequantize(codes, state):totable()
  end
  table.sort(values)
  local distinct = {}
  for _, value in ipairs(values) do
    if value ~= previous then distinct[#distinct + 1] = value end
    previous = value
  end
  return distinct
end

describe("fp8.formats", function()
  it("says what the formats can hold", function()
    local names = {}
    for name in support.sorted_pairs(fp8.formats) do names[#names + 1] = name end
    assert.same({"e2m1", "e2m3", "e3m2", "e4m3", "e5m2", "int4", "int8", "nf4"}, names)
    local counts = {e2m1 = 15, e2m3 = 63, e3m2 = 63, int8 = 255, int4 = 15, nf4 = 16, e4m3 = 253, e5m2 = 247}
    for name, format in pairs(fp8.formats) do
      local numbers = numbers_of(name)
      assert.equal(counts[name], #numbers, name)
      assert.equal(format.largest, numbers[#numbers], name)
      local smallest = math.huge
      for _, number in ipairs(numbers) do
        if number > 0 then smallest = math.min(smallest, number) end
      end
      assert.equal(f32(format.smallest), smallest, name)
      assert.equal(name:match "^e[45]" ~= nil, format.hardware)
    end
  end)

  it("has maps of all floating-point numbers, subnormal ones included", function()
    local expected = {}
    for code = 0, 127 do
      local exponent, fraction = math.floor(code / 16), code % 16 / 16
      local value = exponent == 0 and fraction * 2 ^ -2 or (1 + fraction) * 2 ^ (exponent - 3)
      expected[#expected + 1], expected[#expected + 2] = value, -value
    end
    table.sort(expected)
    for i, value in ipairs(expected) do expected[i] = f32(value / 31) end
    assert.same(expected, fp8.create_float_map(3, 4):totable())
    local e4m3 = support.flat(fp8.create_float_map(4, 3, {infinity = true}) * 240)
    local found = {}
    for _, value in ipairs(e4m3) do found[value] = true end
    for _, value in ipairs(numbers_of "e4m3") do
      assert.equal(math.abs(value) <= 240, found[value] or false, value)
    end
    assert.equal(0, fp8.create_float_map(4, 4, {signed = false}):min():item())
    support.equal(fp8.create_float_map(3, 2, {bias = 9}), fp8.create_float_map(3, 2))
    fails("create_float_map", fp8.create_float_map, 0, 3)
    fails("2 to 8", fp8.create_float_map, 6, 3)
    fails("bias must be from", fp8.create_float_map, 4, 3, {bias = 1000})
    fails("no number but 0", fp8.create_float_map, 1, 0, {infinity = true})
    fails("unknown option infinite", fp8.create_float_map, 4, 3, {infinite = true})
    fails("must be numbers", fp8.create_float_map, 4)
  end)

  it("give codes as their standards write them", function()
    local function bits(values, format)
      return fp8.code_bits(fp8.quantize(fp8.tensor(values), format, {constant_scale = 1}), format):totable()
    end
    assert.same({0, 1, 7, 9, 15, 2}, bits({0, 0.5, 100, -0.5, -6, 1}, "e2m1"))
    assert.same({1, 31, 33, 63}, bits({0.125, 7.5, -0.125, -9}, "e2m3"))
    assert.same({0, 1, 127, 255, 129}, bits({0, 1, 200, -1, -200}, "int8"))
    assert.same({0, 7, 15, 9}, bits({0, 9, -1, -9}, "int4"))
    assert.same({0, 7, 15}, bits({-1, 0, 1}, "nf4"))
    local codes = fp8.quantize(fp8.tensor {0.5, -6, 1, 0}, "e2m1", {constant_scale = 1})
    assert.same({0xF1, 0x02}, fp8.code_bits(codes, "e2m1", {packed = true}):totable())
    fails("more than 4 bits", fp8.code_bits, codes, "int8", {packed = true})
    fails("odd number", fp8.code_bits, codes:narrow(1, 1, 3), "e2m1", {packed = true})
    fails("no dtype, got e4m3", fp8.code_bits, codes, "e4m3")
    fails("u8 tensor, got f32", fp8.code_bits, codes:to("f32"), "e2m1")
    fails("must be f32, f16", fp8.quantize_blockwise, codes, "e2m1")
    fails("there is no format 'e2m2'", fp8.quantize, fp8.ones(2), "e2m2")
    fails("second_scale", fp8.quantize, fp8.ones(2), "e2m1", {second_scale = "tensor"})
    fails("row", fp8.quantize_blockwise, fp8.ones(2, 3), "e2m1", 4, {scale_rounding = "e4m3", second_scale = "row"})
  end)
end)

support.each_device(function(device)
  describe("Quantizing on " .. device, function()
    local map = fp8.create_map(true, 3, 4, 8)
    local lists = {[map] = map:totable()}

    it("gives the reference's values with every format, scale and rounding", function()
      local random = support.random(11)
      local function pick(list) return list[random(#list)] end
      fp8.manual_seed(3)
      for trial = 1, 240 do
        local format = pick {"e2m1", "e2m1", "e2m3", "e3m2", "int8", "int4", "nf4", "e4m3", "e5m2", map}
        local rows, columns = random(40), pick {random(60), 16 * random(12), 128}
        local scale = pick {"tensor", "row", "column", 16, 32, 7, {1, 16}, {16, 16}, {16, 1}, {1, 32}, {32, 1}, {5, 3}}
        local rounding = pick {"none", "power_of_two", "mx", "ceil", "even", "rceil", "e4m3", "e4m3"}
        local more = {}
        if rounding == "e4m3" then
          local in_rows = scale == "row" or type(scale) == "table" and scale[1] == 1
          more.second_scale = pick {"none", "tensor", in_rows and "row" or nil}
        elseif random(4) == 1 then
          more.headroom = pick {0.5, 4 / 3, 2}
        elseif random(6) == 1 then
          more.constant_scale = pick {0.01, 1, 3}
        end
        local dtype = pick {"f32", "f16", "bf16"}
        local x = fp8.randn(rows, columns) * fp8.randn(rows, 1):mul(pick {1, 4}):exp()
        if random(5) == 1 then x = x * (fp8.rand(rows, columns):gt(0.9)) end
        x = x:clamp(-60000, 60000):to(dtype)
        local expected, scales = reference.fake_quantize(support.flat(x), lists[format] or format, scale,
          {rows, columns}, dtype, rounding, nil, more)
        local text = ("trial %d: %s %s of %d x %d, %s, %s"):format(trial, tostring(format), dtype, rows, columns,
          type(scale) == "table" and table.concat(scale, "x") or scale, rounding)
        local options = {scale_rounding = rounding, scale = scale}
        for field, value in pairs(more) do options[field] = value end
        local codes, state = fp8.quantize(x:to(device), format, options)
        assert.same(scales, support.flat(state.absmax), text)
        local values = support.flat(fp8.dequantize(codes, state))
        for i, value in ipairs(expected) do
          if value ~= values[i] then
            error(("%s: element %d is %.9g, not %.9g"):format(text, i, values[i], value))
          end
        end
        local operand = {
          format = format, blocksize = state.blocksize, scale_rounding = rounding, second_scale = more.second_scale,
          headroom = more.headroom, constant_scale = more.constant_scale,
        }
        support.equal(core.quantize(x:to(device), core.quantizer(operand), "values"), fp8.dequantize(codes, state))
      end
    end)

    it("makes NaN of a block with a NaN or an infinity, and of all that is below one scale", function()
      for _, bad in ipairs {0 / 0, 1 / 0, -1 / 0} do
        for _, format in ipairs(all) do
          for _, rounding in ipairs {"none", "mx", "ceil", "even", "rceil", "e4m3"} do
            for _, second in ipairs(rounding == "e4m3" and {"none", "tensor", "row"} or {"none"}) do
              local x = fp8.randn(4, 64)
              x[2]:narrow(1, 20, 1):fill_(bad)
              local codes, state = fp8.quantize_blockwise(x:to(device), format, {1, 16},
                {scale_rounding = rounding, second_scale = second})
              local values = support.flat(fp8.dequantize(codes, state))
              for i, value in ipairs(values) do
                local broken = second == "tensor" or (second == "row" and i > 64 and i <= 128) or i > 80 and i <= 96
                assert.equal(broken, value ~= value, format)
              end
            end
          end
        end
      end
    end)

    it("rounds stochastically without a bias, and alike everywhere", function()
      fp8.manual_seed(5)
      local count = 1000000
      for _, format in ipairs(all) do
        local numbers = numbers_of(format)
        for _, place in ipairs {#numbers - 3, math.ceil(#numbers / 2) + 1, 2} do
          local low, high = numbers[place], numbers[place + 1]
          local x = f32(low + (high - low) * 0.3)
          local share = (x - low) / (high - low)
          local tensor = fp8.full({count}, x, {device = device})
          local seed, offset = fp8.random_state()
          local codes, state = fp8.quantize(tensor, format, {constant_scale = 1, rounding = "stochastic"})
          local above = fp8.dequantize(codes, state):eq(high):to("f32"):mean():item()
          local bound = 4 * math.sqrt(share * (1 - share) / count)
          assert(math.abs(above - share) <= bound, ("%s: %.6f of %.6f"):format(format, above, share))
          if device ~= "cpu" then
            fp8.manual_seed(seed, offset)
            local on_cpu = fp8.quantize(tensor:to("cpu"), format, {constant_scale = 1, rounding = "stochastic"})
            support.equal(codes, on_cpu)
          end
        end
      end
      for _, format in ipairs(small) do -- beyond the largest, nothing is drawn
        local largest = fp8.formats[format].largest
        local x = fp8.tensor({3 * largest, -3 * largest, largest, 0}, {device = device})
        local codes, state = fp8.quantize(x, format, {constant_scale = 1, rounding = "stochastic"})
        assert.same({largest, -largest, largest, 0}, fp8.dequantize(codes, state):totable(), format)
        support.equal(codes, (fp8.quantize(x, format, {constant_scale = 1})))
      end
    end)

    -- The smallest normal number's exponent, and the bits of a fraction.
    local grids = {
      e4m3 = {-6, 3}, e5m2 = {-14, 2}, e2m1 = {0, 1}, e2m3 = {0, 3}, e3m2 = {-2, 2}, int8 = {7, 7}, int4 = {3, 3},
    }

    -- Away from 0 where what is dropped of a float32 number, or of what it has below the smallest normal one, and
    -- as many of 32 random bits give a step together.
    local function rounded_to_grid(x, grid, bits)
      local _, exponent = math.frexp(x)
      local lost = 2 ^ (23 - grid[2])
      local step = 2 ^ (math.max(exponent - 1, grid[1]) - grid[2])
      local steps = math.abs(x) / step
      local rest = math.floor(steps % 1 * lost + 0.5)
      if steps % 1 * lost % 1 == 0.5 then rest = rest - rest % 2 end
      local up = rest + math.floor(bits / 2 ^ 32 * lost) >= lost
      return (math.floor(steps) + (up and 1 or 0)) * step * (x < 0 and -1 or 1)
    end

    -- Upwards where the first 24 bits, as a share of the way between two numbers, are less than what x has passed.
    local function rounded_to_list(x, numbers, bits)
      local place = 1
      while place < #numbers and numbers[place + 1] <= x do place = place + 1 end
      local low, high = numbers[place], numbers[place + 1]
      if not high then return low end
      local share = f32(math.floor(bits / 2 ^ 8) / 2 ^ 24 * f32(high - low))
      return share < f32(x - low) and high or low
    end

    it("decides by the bits of each element", function()
      assert.same({0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}, philox.block(0, 0)) -- Random123's test vector
      local count = 1003
      local random = philox.rounding_bits(7, 2 ^ 33 + 5, count)
      for _, format in ipairs(all) do
        local largest = fp8.formats[format].largest
        local x = fp8.randn(count) * (fp8.randn(count) * 3):exp() * (largest / 50)
        x = x:clamp(-largest, largest)
        x[1]:fill_(0)
        local numbers, expected = numbers_of(format), x:totable()
        for i, value in ipairs(expected) do
          expected[i] = grids[format] and rounded_to_grid(value, grids[format], random[i]) or
            rounded_to_list(value, numbers, random[i])
        end
        local settings = {constant_scale = 1, rounding = "stochastic"}
        for _, shape in ipairs {{count}, {17, 59}, {59, 17}} do
          fp8.manual_seed(7, 2 ^ 33 + 5)
          local codes, state = fp8.quantize(x:to(device):view(shape), format, settings)
          local _, position = fp8.random_state()
          assert.equal(2 ^ 33 + 5 + 126, position)
          support.equal(fp8.dequantize(codes, state):view(-1):to "cpu", fp8.tensor(expected))
        end
      end
    end)

    it("rounds neighbours independently of each other", function()
      fp8.manual_seed(6)
      local pairs_of = 500000
      for _, share in ipairs {0.5, 0.1, 1 / 256} do
        local x = fp8.full({2 * pairs_of}, 1 + share / 2, {device = device})
        local codes, state = fp8.quantize(x, "e2m1", {constant_scale = 1, rounding = "stochastic"})
        local up = fp8.dequantize(codes, state):gt(1):to("f32"):view(pairs_of, 2)
        local both = up:select(2, 1):mul(up:select(2, 2)):mean():item()
        assert.near(share ^ 2, both, 4 * math.sqrt(share ^ 2 * (1 - share ^ 2) / pairs_of))
      end
    end)

    it("is compared as it is done", function()
      local x = fp8.randn(32, 64, {device = device}) * fp8.randn(32, 1, {device = device}):exp()
      local nvfp4 = {format = "e2m1", scale = {1, 16}, scale_rounding = "e4m3", second_scale = "tensor"}
      local analysis = fp8.analyze(x, {formats = {"e2m1", "int8", "nf4", nvfp4}, scales = {"row", 32}})
      local function check(format, name, scale, options)
        local codes, state = fp8.quantize_blockwise(x, format, scale, options)
        local lost = (fp8.dequantize(codes, state) - x):norm():item()
        local snr = 20 * math.log10(x:norm():item() / lost)
        assert(math.abs(analysis[format][name].snr - snr) < 1e-3, format)
      end
      for _, format in ipairs {"e2m1", "int8", "nf4"} do
        check(format, "row", "row")
        check(format, "32", 32)
      end
      check("e2m1", "1x16_e4m3_tensor", {1, 16}, {scale_rounding = "e4m3", second_scale = "tensor"})
    end)

    it("takes views, and tensors without elements", function()
      local x = fp8.randn(48, 32, {device = device})
      local options = {scale_rounding = "e4m3", second_scale = "tensor"}
      local codes, state = fp8.quantize_blockwise(x:t(), "e2m1", {1, 16}, options)
      local same, same_state = fp8.quantize_blockwise(x:t():contiguous(), "e2m1", {1, 16}, options)
      support.equal(codes, same)
      support.equal(state.absmax, same_state.absmax)
      for _, second in ipairs {"tensor", "row"} do
        local none = fp8.quantize_blockwise(fp8.zeros(0, 16, {device = device}), "e2m1", {1, 16},
          {scale_rounding = "e4m3", second_scale = second})
        assert.same({0, 16}, none.shape)
      end
    end)
  end)

  describe("The Hadamard transform on " .. device, function()
    it("is the reference's along rows and columns", function()
      fp8.manual_seed(6)
      local random = support.random(5)
      for _, length in ipairs {16, 32, 64, 128} do
        for _, dtype in ipairs {"f32", "f16", "bf16"} do
          for _, sizes in ipairs {{3, 2 * length}, {length, 8}, {2 * length + 5, length + 3}, {0, 8}} do
            local rows, columns = unpack(sizes)
            local x = fp8.randn(rows, columns):to(dtype)
            local signs, text = {}, {}
            for i = 1, length do
              signs[i] = random(2) == 1 and 1 or -1
              text[i] = signs[i] < 0 and "-" or "+"
            end
            for _, down in ipairs {false, true} do
              local expected = reference.hadamard(support.flat(x), length, down, signs, sizes, reference.round[dtype])
              local y = core.hadamard(x:to(device), length, down, table.concat(text))
              support.close(y, fp8.tensor(expected):view(rows, columns), support.tolerance[dtype])
            end
          end
        end
      end
    end)

    it("has the same bits as on the CPU", function()
      for _, length in ipairs {16, 32, 64, 128} do
        for _, dtype in ipairs {"f32", "f16", "bf16"} do
          for _, columns in ipairs {256, 259} do
            local x = fp8.randn(257, columns):to(dtype)
            for _, down in ipairs {false, true} do
              support.equal(core.hadamard(x:to(device), length, down), core.hadamard(x, length, down))
            end
          end
        end
      end
    end)

    it("refuses what it is not", function()
      local x = fp8.ones(16, {device = device})
      fails("length must be 16, 32, 64 or 128, got 8", fp8.hadamard, x, 8)
      fails("list of 16 times 1 or -1", fp8.hadamard, x, 16, {1, -1})
      fails("f32, f16", fp8.hadamard, x:to("i32"), 16)
      fails("tensor", fp8.hadamard, 3, 16)
      fails("length must be", fp8.hadamard, x)
    end)
  end)
end)

-- Values in small blocks with fitted scales, which a GPU finds while it quantizes: those of fitted_scale and a
-- quantization with known scales, to the last bit, and those of the CPU.
local fp8 = require "fp8"
local core = require "fp8.core"
local support = require "spec.support"

local matrix, same = support.uneven_matrix, support.equal_with_signs

local signs = "+-++-+---+-++--+"

-- Tiles, and length and direction of a transform.
local ways = {
  ["rows of 16"] = {{1, 16}}, ["rows of 32"] = {{1, 32}}, ["tiles of 8 rows"] = {{8, 16}},
  ["squares of 16"] = {{16, 16}}, ["tiles of 16 rows and 32 columns"] = {{16, 32}}, ["columns of 16"] = {{16, 1}},
  ["columns of 32"] = {{32, 1}}, ["columns of 64"] = {{64, 1}},
  ["transformed rows"] = {{1, 16}, 16, false}, ["transforms of 64 along rows"] = {{1, 32}, 64, false},
  ["transformed columns"] = {{16, 1}, 16, true}, ["transforms of 32 down columns"] = {{32, 1}, 32, true},
  ["transforms of 64 down columns"] = {{16, 1}, 64, true}, ["rows of 64"] = {{1, 64}},
}

local fits = {
  {candidates = {1, 1.5}, scale_rounding = "e4m3", second_scale = "tensor", largest_scale = 256},
  {candidates = {1, 1.5}, scale_rounding = "e4m3"},
  {candidates = {1, 1.5}},
  {candidates = {1, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65}},
  {candidates = {2, 1, 0.5}, scale_rounding = "mx"},
  {candidates = {0.5, 1}, root_mean_square = 3, headroom = 1.5},
  {root_mean_square = 1.9483, scale_rounding = "mx"},
  {root_mean_square = 12.1, mean_magnitude = -12.2},
  {largest_scale = 100, scale_rounding = "e4m3", second_scale = "tensor"},
  {candidates = {1e-30, 1, 1e30}},
  {candidates = {1e38, 1, 1e-38}, scale_rounding = "e4m3", second_scale = "tensor"},
}

local formats = {"e2m1", "e4m3", "e2m3", "e5m2", "e3m2", "int8", "int4"}

local function quantizer(format, tile, fields, rounding)
  local options = {format = format, blocksize = tile, rounding = rounding}
  for name, value in pairs(fields) do options[name] = value end
  return core.quantizer(options)
end

-- Numbers of all kinds, in rows and columns of their own.
local function odd(rows, columns, dtype, bad)
  local x, half = matrix(rows, columns, dtype), dtype == "f16"
  x[3]:narrow(1, 20, 1):fill_(bad)
  x[20]:fill_(0)
  x:narrow(1, 33, 32):narrow(2, 17, 32):mul_(-0)
  x:narrow(1, 33, 32):narrow(2, 65, 32):mul_(half and 1e-6 or 1e-38)
  x:narrow(1, 65, 32):narrow(2, 1, 64):mul_(half and 1e-3 or 1e-20)
  x:narrow(1, 65, 32):narrow(2, 65, 64):clamp_(-1, 1):mul_(half and 6e4 or 3e38)
  x[98]:narrow(1, 1, 1):fill_(half and 6e-8 or 1e-40)
  return x
end

support.each_device(function(device)
  describe("Values with fitted scales on " .. device, function()
    before_each(function() fp8.manual_seed(4) end)

    -- x, on the CPU, by a way: in one go on the device, in steps there and on the CPU.
    local function check(x, format, way, fields, rounding)
      local made = quantizer(format, way[1], fields, rounding)
      local function by(f, ...)
        fp8.manual_seed(9)
        return f(...)
      end
      local function transformed(tensor)
        return way[2] and core.hadamard(tensor, way[2], way[3], way[2] == 16 and signs or nil) or tensor
      end
      local on_device = x:to(device)
      local source = transformed(on_device)
      local scale = core.fitted_scale(source, made)
      local expected = by(core.quantize, source, made, "values", {known = scale})
      local values, found = by(core.quantize, source, made, "values scale")
      same(values, expected)
      support.equal(found, scale)
      local others = by(core.quantize_values, on_device, nil, nil, made, way[2], way[3] or false,
        way[2] == 16 and signs or nil)
      same(others, expected)
      if device ~= "cpu" then
        local of_cpu, scale_of_cpu = by(core.quantize, transformed(x), made, "values scale")
        same(values, of_cpu)
        support.equal(found, scale_of_cpu)
      end
    end

    for name, way in support.sorted_pairs(ways) do
      it("are those of each step, by " .. name, function()
        for i, fields in ipairs(fits) do
          for k, format in ipairs(formats) do
            local dtype = k % 3 == 0 and "f16" or "bf16"
            check(matrix(64, 128, dtype), format, way, fields, (i + k) % 2 == 0 and "stochastic" or nil)
          end
          check(matrix(64, 64, "bf16"), "e2m1", way, fields, "stochastic")
          check(matrix(64, 64, "bf16"), "e4m3", way, fields)
        end
      end)

      it("are those of each step for numbers of all kinds, by " .. name, function()
        for i, fields in ipairs(fits) do
          for k, bad in ipairs {1, 0 / 0, math.huge, -math.huge} do
            local dtype = (i + k) % 3 == 0 and "f16" or "bf16"
            check(odd(128, 128, dtype, bad), formats[(i + k) % #formats + 1], way, fields)
            check(odd(128, 128, dtype, bad), "e2m1", way, fields, k == 3 and "stochastic" or nil)
          end
        end
      end)

      it("are those of each step in other shapes, by " .. name, function()
        for i, shape in ipairs {{1, 64}, {32, 64}, {33, 128}, {96, 192}, {64, 72}, {7, 104}, {100, 33}, {128, 320}} do
          for _, dtype in ipairs {"bf16", i % 2 == 0 and "f16" or "f32"} do
            check(matrix(shape[1], shape[2], dtype), formats[i % 2 + 1], way, fits[i])
          end
        end
      end)
    end

    it("are those of two calls in one read", function()
      for _, shape in ipairs {{64, 128}, {128, 64}, {33, 100}} do
        for _, rounding in ipairs {"nearest", "stochastic"} do
          local x = matrix(shape[1], shape[2], "bf16"):to(device)
          local one = quantizer("e2m1", {1, 16}, fits[1], rounding)
          local other = quantizer("e2m1", {16, 1}, fits[1], rounding)
          fp8.manual_seed(9)
          local first = core.quantize_values(x, nil, nil, one)
          local second = core.quantize_values(x, nil, nil, other, 16, true, signs)
          fp8.manual_seed(9)
          local values, turned, sum = core.quantize_values(x, nil, "f32", one, nil, nil, nil, other, 16, true, signs)
          same(values, first)
          same(turned, second)
          support.close(sum, core.sum(x:to "f32", 1))
          -- One with a fitted scale and one without.
          local plain = quantizer("e2m1", {16, 1}, {scale_rounding = "mx"}, rounding)
          fp8.manual_seed(9)
          first, second = core.quantize_values(x, nil, nil, one), core.quantize_values(x, nil, nil, plain)
          fp8.manual_seed(9)
          values, turned = core.quantize_values(x, nil, nil, one, nil, nil, nil, plain)
          same(values, first)
          same(turned, second)
        end
      end
    end)

    it("take views, other dimensions and tensors without elements", function()
      local made = quantizer("e2m1", {1, 16}, fits[1])
      local x = matrix(128, 128, "bf16"):to(device)
      local function values_of(tensor) return (core.quantize(tensor, made, "values")) end
      for _, view in ipairs {x:t(), x:narrow(2, 33, 64), x:narrow(1, 3, 64), x:view(4, 32, 128), x:narrow(2, 2, 64)} do
        same(values_of(view), values_of(view:contiguous():clone()))
      end
      local values, scale = core.quantize(fp8.zeros(0, 64, {dtype = "bf16", device = device}), made, "values scale")
      assert.same({0, 64}, values.shape)
      assert.same({0}, scale.shape)
    end)

    if device ~= "cpu" then
      it("draw the numbers that come next at every replay of a graph", function()
        local made = quantizer("e2m1", {1, 16}, fits[1], "stochastic")
        local x = matrix(64, 64, "bf16"):to(device)
        local function values() return (core.quantize(x, made, "values")) end
        local graph = fp8.cuda.graph(values, device)
        fp8.manual_seed(5)
        local expected = {values(), values()}
        fp8.manual_seed(5)
        for i = 1, 2 do same(graph(), expected[i]) end
      end)
    end
  end)
end)

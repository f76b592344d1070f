--- Every quantization kernel against a copy of the same tensor on the same device. Options: --help.
package.path = arg[0]:gsub("[^/\\]*$", "") .. "?.lua;" .. package.path

local fp8 = require "fp8"
local core = require "fp8.core"
local measure = require "measure"

local usage = [[
usage: luajit examples/bench/quantize.lua [options]
  --device NAME   cpu, cuda, cuda:1, … (default: cuda where it works, else cpu)
  --dtype LIST    of the tensor: f32, f16, bf16 (default bf16,f32)
  --shape R,C     its rows and columns (default 16384,8192, on the CPU 2048,1024)
  --kernels LIST  maps, casts, small, fitted, random, others: the tables to print (default these)
  --steps N       samples of a measurement, whose median is printed (default 50)
  --help          this text

Each cell: GB/s (1e9 bytes read and written a second; on the CPU 1e9 values a second), and the share of the copy's GB/s.
A whole-tensor absmax is a second read of the tensor, and counted.
]]

local element_bytes = {f32 = 4, f16 = 2, bf16 = 2}

local function read_shape(text)
  local rows, columns = text:match("^(%d+)[,x](%d+)$")
  rows, columns = measure.whole(rows), measure.whole(columns)
  return rows and columns and {rows = rows, columns = columns}
end

local formats = {
  e4m3 = fp8.create_map(true, 4, 3, 8),
  e5m2 = fp8.create_map(true, 5, 2, 8),
  dynamic = fp8.create_dynamic_map(),
  powers = fp8.create_float_map(3, 0),
}
local maps, hardware, small = {"e4m3", "e5m2", "dynamic"}, {"e4m3", "e5m2"}, {"e2m1", "e4m3"}
local fitted, at_random = {"e2m1", "e4m3", "dynamic"}, {"dynamic", "powers"}

-- What is measured: a title, the bytes that one value costs (d: those of the tensor's dtype), and a function that makes
-- the call. `format` is a map or, in the second list, the name of a hardware format. Scales are not in the bytes, at
-- most 4 in 256 values, but for small blocks.

local function fake_quantize(blocksize, sums)
  return function(format, dtype)
    local quantizer = core.quantizer {format = format, blocksize = blocksize}
    local outputs, options = sums and "values sum" or "values", {dtype = dtype, sum_dtype = dtype}
    return function(x) return core.quantize(x, quantizer, outputs, options) end
  end
end

local function quantize(blocksize, outputs)
  return function(format, dtype)
    local quantizer = core.quantizer {format = format, blocksize = blocksize}
    local options = {sum_dtype = dtype}
    return function(x) return core.quantize(x, quantizer, outputs or "codes scale", options) end
  end
end

-- Codes along rows and, transposed, along columns: blocks of both.
local function both_ways(row_blocks, column_blocks, sums)
  return function(format, dtype)
    local along_rows = core.quantizer {format = format, blocksize = row_blocks}
    local along_columns = core.quantizer {format = format, blocksize = column_blocks}
    return function(x) return {core.quantize_both_ways(x, along_rows, along_columns, sums and dtype or nil)} end
  end
end

-- With the scale of an earlier quantization, as for a weight whose absmax is known.
local function quantize_again(outputs)
  return function(format, _, x)
    local quantizer = core.quantizer {format = format}
    local options = {known = core.quantize(x, quantizer, "scale")}
    return function(x_again) return core.quantize(x_again, quantizer, outputs, options) end
  end
end

local function dequantize(blocksize)
  return function(format, dtype, x)
    local quantizer = core.quantizer {format = format, blocksize = blocksize}
    local codes, scale = core.quantize(x, quantizer, "codes scale")
    return function() return core.dequantize(codes, scale, quantizer, dtype) end
  end
end

local function of_maps(d)
  return {
    {"fake-quantize, blocks of 4096", 2 * d, fake_quantize(4096)},
    {"fake-quantize, blocks of 256", 2 * d, fake_quantize(256)},
    {"fake-quantize, blocks of 64", 2 * d, fake_quantize(64)},
    {"fake-quantize, whole tensor", 3 * d, fake_quantize()},
    {"… with column sums, 4096", 2 * d, fake_quantize(4096, true)},
    {"… with column sums, whole", 3 * d, fake_quantize(nil, "codes scale transposed")},
    {"quantize, blocks of 4096", d + 1, quantize(4096)},
    {"quantize, blocks of 256", d + 1, quantize(256)},
    {"quantize, whole tensor", 2 * d + 1, quantize()},
    {"dequantize, blocks of 4096", d + 1, dequantize(4096)},
    {"dequantize, blocks of 256", d + 1, dequantize(256)},
    {"dequantize, whole tensor", d + 1, dequantize()},
  }
end

local function of_casts(d, columns)
  return {
    {"cast, scale a row", d + 1, quantize(columns)},
    {"cast, one scale", 2 * d + 1, quantize()},
    {"cast, one known scale", d + 1, quantize_again "codes scale"},
    {"with transpose, scale a row", d + 2, quantize(columns, "codes scale transposed")},
    {"with transpose, one scale", 2 * d + 2, quantize(nil, "codes scale transposed")},
    {"with transpose, known scale", d + 2, quantize_again "codes scale transposed"},
    {"with sums, scale a row", d + 1, quantize(columns, "codes scale sum")},
    {"with both, one scale", 2 * d + 2, quantize(nil, "codes scale transposed sum")},
    {"values again, scale a row", d + 1, dequantize(columns)},
    {"both ways, scales of 128", d + 2, both_ways({1, 128}, {128, 1})},
    {"… with sums", d + 2, both_ways({1, 128}, {128, 1}, true)},
    {"both ways, squares of 128", d + 2, both_ways({128, 128}, {128, 128})},
    {"both ways, a row, a column", 2 * d + 2, both_ways(columns, {2 ^ 52, 1})},
  }
end

-- A quantization to values in tiles: fields of core.quantizer beside the format, and of a Hadamard transform.
local function way_of(format, tile, fields)
  local quantizer = core.quantizer {
    format = format, blocksize = tile, scale_rounding = fields.scale, second_scale = fields.above,
    rounding = fields.rounding, candidates = fields.candidates, largest_scale = fields.largest,
    root_mean_square = fields.root_mean_square,
  }
  return quantizer, fields.hadamard, fields.down or false
end

local function in_tiles(rows, columns, fields)
  return function(format, dtype)
    local quantizer, length, down = way_of(format, {rows, columns}, fields)
    if fields.outputs then return function(x) return {core.quantize(x, quantizer, fields.outputs)} end end
    return function(x) return core.quantize_values(x, dtype, nil, quantizer, length, down) end
  end
end

-- Values by two quantizers, {rows, columns, fields} each, from one read.
local function two_ways(one, other)
  return function(format, dtype)
    local first, length, down = way_of(format, {one[1], one[2]}, one[3])
    local second, other_length, other_down = way_of(format, {other[1], other[2]}, other[3])
    return function(x)
      return {core.quantize_values(x, dtype, nil, first, length, down, nil, second, other_length, other_down)}
    end
  end
end

-- Scales are 4 bytes for so many values that they count here. A second scale, above those of blocks, takes one more
-- read.
local function of_small(d, columns)
  local mx, e4m3 = {scale = "mx"}, {scale = "e4m3"}
  local nvfp4, stochastic = {scale = "e4m3", above = "tensor"}, {scale = "mx", rounding = "stochastic"}
  local transformed = {scale = "mx", rounding = "stochastic", hadamard = 64}
  local transformed_down = {scale = "mx", rounding = "stochastic", hadamard = 64, down = true}
  local nvfp4_turned = {scale = "e4m3", above = "tensor", hadamard = 16, down = true}
  local nvfp4_gradient = {scale = "e4m3", above = "tensor", rounding = "stochastic"}
  local nvfp4_turned_gradient =
    {scale = "e4m3", above = "tensor", rounding = "stochastic", hadamard = 16, down = true}
  return {
    {"values, 1 x 32, MX", 2 * d, in_tiles(1, 32, mx)},
    {"values, 32 x 1, MX", 2 * d, in_tiles(32, 1, mx)},
    {"… both in one go", 3 * d, two_ways({1, 32, mx}, {32, 1, mx})},
    {"values, 1 x 32, stochastic", 2 * d, in_tiles(1, 32, stochastic)},
    {"values, 32 x 1, stochastic", 2 * d, in_tiles(32, 1, stochastic)},
    {"… 1 x 32, Hadamard 64", 2 * d, in_tiles(1, 32, transformed)},
    {"… 32 x 1, Hadamard 64", 2 * d, in_tiles(32, 1, transformed_down)},
    {"… both in one go", 3 * d, two_ways({1, 32, transformed}, {32, 1, transformed_down})},
    {"values, 1 x 16, E4M3", 2 * d, in_tiles(1, 16, e4m3)},
    {"values, 16 x 1, E4M3", 2 * d, in_tiles(16, 1, e4m3)},
    {"values, 16 x 16, E4M3", 2 * d, in_tiles(16, 16, e4m3)},
    {"values, 1 x 16, NVFP4", 3 * d, in_tiles(1, 16, nvfp4)},
    {"values, 16 x 1, NVFP4", 3 * d, in_tiles(16, 1, nvfp4)},
    {"values, 16 x 16, NVFP4", 3 * d, in_tiles(16, 16, nvfp4)},
    {"… 16 x 1, Hadamard 16", 3 * d, in_tiles(16, 1, nvfp4_turned)},
    {"… input, both in one go", 4 * d, two_ways({1, 16, nvfp4}, {16, 1, nvfp4_turned})},
    {"… gradient, both in one go", 4 * d, two_ways({1, 16, nvfp4_gradient}, {16, 1, nvfp4_turned_gradient})},
    {"codes, 1 x 16, E4M3", d + 1.25, in_tiles(1, 16, {scale = "e4m3", outputs = "codes scale"})},
    {"codes, 1 x 32, MX", d + 1.125, in_tiles(1, 32, {scale = "mx", outputs = "codes scale"})},
    {"codes, 32 x 1, MX", d + 1.125, in_tiles(32, 1, {scale = "mx", outputs = "codes scale"})},
    {"codes, 1 x 32, stochastic", d + 1.125,
      in_tiles(1, 32, {scale = "mx", rounding = "stochastic", outputs = "codes scale"})},
    {"codes, a row, stochastic", d + 1, in_tiles(1, columns, {rounding = "stochastic", outputs = "codes scale"})},
    {"values, a row, stochastic", 2 * d, in_tiles(1, columns, {rounding = "stochastic", outputs = "values"})},
    {"values, all, stochastic", 3 * d, in_tiles(2 ^ 52, columns, {rounding = "stochastic", outputs = "values"})},
  }
end

-- Stochastic rounding by maps without a grid.
local function of_random(d, columns)
  local function way(blocksize, outputs)
    return function(format)
      local quantizer = core.quantizer {format = format, blocksize = blocksize, rounding = "stochastic"}
      return function(x) return core.quantize(x, quantizer, outputs) end
    end
  end
  return {
    {"values, blocks of 32", 2 * d, way(32, "values")},
    {"values, blocks of 256", 2 * d, way(256, "values")},
    {"values, a row", 2 * d, way(columns, "values")},
    {"values, all", 3 * d, way(nil, "values")},
    {"codes, a row", d + 1, way(columns, "codes scale")},
    {"codes, all", 2 * d + 1, way(nil, "codes scale")},
  }
end

-- Scales alone, and values with them, fitted as recipes ask for: four over six, quartet's statistics, more candidates.
local function of_fitted(d, columns)
  local function fit(blocksize, fields)
    return function(format)
      local options = {format = format, blocksize = blocksize}
      for name, value in pairs(fields) do options[name] = value end
      local quantizer = core.quantizer(options)
      return function(x) return core.fitted_scale(x, quantizer) end
    end
  end
  local two, four = {candidates = {1, 1.5}}, {candidates = {1, 0.9, 0.8, 0.7}}
  local eight = {candidates = {1, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65}}
  local statistics = {root_mean_square = 2.92, scale_rounding = "mx"}
  local four_over_six =
    {candidates = {1, 1.5}, scale_rounding = "e4m3", second_scale = "tensor", largest_scale = 256}
  local function of_nvfp4(fields)
    for name, value in pairs {scale = "e4m3", above = "tensor", candidates = {1, 1.5}, largest = 256} do
      fields[name] = value
    end
    return fields
  end
  local nvfp4, gradient = of_nvfp4 {}, of_nvfp4 {rounding = "stochastic"}
  local turned = of_nvfp4 {hadamard = 16, down = true}
  local turned_gradient = of_nvfp4 {rounding = "stochastic", hadamard = 16, down = true}
  local quest = {scale = "mx", root_mean_square = 2.92}
  return {
    {"1 x 16, two, NVFP4", 2 * d, fit({1, 16}, four_over_six)},
    {"16 x 16, two, NVFP4", 2 * d, fit({16, 16}, four_over_six)},
    {"1 x 16, two", d, fit({1, 16}, two)},
    {"1 x 16, four", d, fit({1, 16}, four)},
    {"1 x 32, two", d, fit({1, 32}, two)},
    {"1 x 32, eight", d, fit({1, 32}, eight)},
    {"32 x 1, two", d, fit({32, 1}, two)},
    {"16 x 16, two", d, fit({16, 16}, two)},
    {"rows, two", d, fit(columns, two)},
    {"whole tensor, two", 2 * d, fit(nil, two)},
    {"1 x 32, mean square", d, fit({1, 32}, statistics)},
    {"rows, mean square", d, fit(columns, statistics)},
    {"whole tensor, mean square", d, fit(nil, statistics)},
    {"values, 1 x 16, two, NVFP4", 3 * d, in_tiles(1, 16, nvfp4)},
    {"values, 16 x 16, two, NVFP4", 3 * d, in_tiles(16, 16, nvfp4)},
    {"… 1 x 16, stochastic", 3 * d, in_tiles(1, 16, gradient)},
    {"… 16 x 1, Hadamard 16", 3 * d, in_tiles(16, 1, turned)},
    {"… input, both in one go", 4 * d, two_ways({1, 16, nvfp4}, {16, 1, turned})},
    {"… gradient, both in one go", 4 * d, two_ways({1, 16, gradient}, {16, 1, turned_gradient})},
    {"values, 1 x 32, two", 2 * d, in_tiles(1, 32, two)},
    {"values, 1 x 32, eight", 2 * d, in_tiles(1, 32, eight)},
    {"values, 1 x 32, mean square", 2 * d, in_tiles(1, 32, quest)},
  }
end

local function of_others(d)
  local function transpose(_, _, x)
    local codes = core.quantize(x, core.quantizer {format = "e4m3"}, "codes")
    return function() return core.contiguous(core.transpose(codes, 1, 2)) end
  end
  local function column_sum() return function(x) return core.sum(x, 1) end end
  return {
    {"column sums", d, column_sum},
    {"transpose of codes", 2, transpose},
    {"Hadamard 16, rows", 2 * d, function() return function(x) return core.hadamard(x, 16, false) end end},
    {"Hadamard 16, columns", 2 * d, function() return function(x) return core.hadamard(x, 16, true) end end},
    {"Hadamard 64, columns", 2 * d, function() return function(x) return core.hadamard(x, 64, true) end end},
  }
end

-- Tensors that together exceed the caches, so that none is still there when its turn comes again.
local function make_pool(shape, dtype, device)
  local bytes = shape.rows * shape.columns * element_bytes[dtype]
  local pool = {}
  for i = 1, math.max(1, math.ceil((device == "cpu" and 32e6 or 100e6) / bytes)) do
    pool[i] = core.randn(shape.rows, shape.columns, {dtype = dtype, device = device})
  end
  return pool
end

local function bench(dtype, options)
  local shape, d = options.shape, element_bytes[dtype]
  local count = shape.rows * shape.columns
  local pool = make_pool(shape, dtype, options.device)
  local function seconds_of(call)
    return measure.time(function(turn) measure.free(call(pool[turn % #pool + 1])) end, options) * 1e-6
  end

  local out = core.empty(shape.rows, shape.columns, {dtype = dtype, device = options.device})
  local copy = 2 * d * count / seconds_of(function(x)
    core.copy_(out, x)
  end)
  print(("\n%s, %d x %d: a copy moves %.0f GB/s"):format(dtype, shape.rows, shape.columns, copy * 1e-9))

  local function print_rows(title, kernels, columns, format_of)
    local unit = options.device == "cpu" and "Gval/s" or "GB/s"
    local header = {("%-30s %7s"):format(title, "B/value")}
    for _, name in ipairs(columns) do header[#header + 1] = ("%9s %-7s"):format(unit, name) end
    print((table.concat(header):gsub("%s+$", "")))
    for _, kernel in ipairs(kernels) do
      local name, bytes, make_call = unpack(kernel)
      local cells = {(name:find("…", 1, true) and "%-32s %7.4g" or "%-30s %7.4g"):format(name, bytes)}
      for _, column in ipairs(columns) do
        local seconds = seconds_of(make_call(format_of(column), dtype, pool[1]))
        local moved = bytes * count / seconds
        local shown = options.device == "cpu" and ("%.2f"):format(count / seconds * 1e-9) or
          ("%.0f"):format(moved * 1e-9)
        cells[#cells + 1] = ("%9s %-7.2f"):format(shown, moved / copy)
      end
      print((table.concat(cells):gsub("%s+$", "")))
    end
  end

  local tables = {
    maps = function() print_rows("maps", of_maps(d), maps, function(name) return formats[name] end) end,
    casts = function()
      print_rows("hardware formats", of_casts(d, shape.columns), hardware, function(name) return name end)
    end,
    small = function()
      print_rows("small blocks", of_small(d, shape.columns), small, function(name) return name end)
    end,
    fitted = function()
      print_rows("fitted scales", of_fitted(d, shape.columns), fitted, function(name)
        return name == "dynamic" and formats.dynamic or name
      end)
    end,
    random = function()
      print_rows("maps, stochastic", of_random(d, shape.columns), at_random, function(name) return formats[name] end)
    end,
    others = function() print_rows("others", of_others(d), {""}, function() end) end,
  }
  for _, name in ipairs(options.kernels) do tables[name]() end
end

measure.main(function()
  local options = measure.options(usage, {
    device = tostring, dtype = measure.names(element_bytes), shape = read_shape, steps = measure.whole,
    kernels = measure.names {maps = true, casts = true, small = true, fitted = true, random = true, others = true},
  }, {dtype = {"bf16", "f32"}, steps = 50, kernels = {"maps", "casts", "small", "fitted", "random", "others"}})
  options.device = options.device or measure.default_device()
  local on_cpu = options.device == "cpu"
  options.shape = options.shape or read_shape(on_cpu and "2048,1024" or "16384,8192")
  options.samples, options.seconds = options.steps, on_cpu and 0.15 or 3
  options.sustained = true -- work for the memory leaves a GPU below its power limit
  print(("%s; share of a copy, medians of up to %d"):format(measure.device_name(options.device), options.samples))
  for _, dtype in ipairs(options.dtype) do bench(dtype, options) end
end)

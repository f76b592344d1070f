-- Reference vectors of block formats, computed by torchao, ml_dtypes and Transformer Engine: spec/fixtures holds a
-- slice of them, FP8_GOLDEN names a folder with all.
--
-- Left out, because fp8 has another rule: blocks with a NaN or an infinity, which become NaN here; in the MX modes
-- "floor", "ceil" and "even", blocks whose scale is 2^-127, which torchao brings back at half their values; torchao's
-- "rceil" where it takes a logarithm ("edges") or flushes to zero ("tiny"), "rceil_exact" being the rule; torchao's
-- NVFP4; and what Transformer Engine decodes by way of an absmax so small or large that it loses range ("tiny",
-- "subnormal", "huge").
local fp8 = require "fp8"
local support = require "spec.support"

local tensors = fp8.load(support.golden "blocks.safetensors", {f64 = "f32"})

local function names_of(pattern)
  local found, list = {}, {}
  for key in pairs(tensors) do
    local name = key:match(pattern)
    if name and not found[name] then
      found[name] = true
      list[#list + 1] = name
    end
  end
  table.sort(list)
  return list
end

-- The bits of codes, a zero without its sign.
local function bits_of(codes, format)
  codes = codes:to("cpu")
  if codes.dtype == "u8" then return support.flat(fp8.code_bits(codes, format)) end
  local data, list = codes:contiguous():data(), {}
  for i = 1, codes:numel() do list[i] = data[i - 1] end
  return list
end

local function unsigned_zero(code, format) return code == 2 ^ (fp8.formats[format].bits - 1) and 0 or code end

local function check_codes(expected, actual, format, name, skip)
  assert.equal(#expected, #actual)
  for i, code in ipairs(expected) do
    if not (skip and skip(i)) and unsigned_zero(code, format) ~= unsigned_zero(actual[i], format) then
      error(("%s: element %d: code %d, expected %d"):format(name, i, actual[i], code))
    end
  end
end

local function check_numbers(expected, actual, name, skip)
  assert.equal(#expected, #actual)
  for i, number in ipairs(expected) do
    if not (skip and skip(i)) and number ~= actual[i] and (number == number or actual[i] == actual[i]) then
      error(("%s: element %d: %.9g, expected %.9g"):format(name, i, actual[i], number))
    end
  end
end

local function is_finite(x) return x - x == 0 end

support.each_device(function(device)
  describe("Golden elements", function()
    for _, format in ipairs(names_of "^elements%.(%w+)%.x$") do
      it(format, function()
        local x = tensors["elements." .. format .. ".x"]
        local codes = fp8.quantize_blockwise(x:to(device), format, 1, {constant_scale = 1})
        local values = support.flat(x)
        check_codes(support.flat(tensors["elements." .. format .. ".codes"]), bits_of(codes, format), format, format,
          function(i) return not is_finite(values[i]) end)
        local all = tensors["elements." .. format .. ".bf16"]
        if not all then return end
        local patterns = fp8.empty(65536, {dtype = "bf16"})
        local bits = patterns:data()
        for i = 0, 65535 do bits[i] = i end
        codes = fp8.quantize_blockwise(patterns:to(device), format, 1, {constant_scale = 1})
        check_codes(support.flat(all), bits_of(codes, format), format, format, function(i)
          return math.floor((i - 1) / 128) % 256 == 255
        end)
      end)
    end
  end)

  describe("Golden MX", function()
    local modes = {floor = "mx", ceil = "ceil", even = "even", rceil = "rceil", rceil_exact = "rceil"}
    local byte_values = support.flat(tensors["e8m0.values"])

    local function check(kind, mode, format)
      local name = ("mx.%s.%s.%s"):format(kind, mode, format)
      local x = tensors["mx." .. kind .. ".x"]
      local codes, state = fp8.quantize_blockwise(x:to(device), format, {1, 32}, {scale_rounding = modes[mode]})
      local bytes, scales, numbers = support.flat(tensors[name .. ".scales"]), support.flat(state.absmax),
        support.flat(x)
      local broken, halved = {}, {}
      for i, number in ipairs(numbers) do
        local block = math.ceil(i / 32)
        if not is_finite(number) then broken[block] = true end
        halved[block] = mode ~= "rceil_exact" and bytes[block] == 0
      end
      local expected = {}
      for block, byte in ipairs(bytes) do expected[block] = broken[block] and 0 / 0 or byte_values[byte + 1] end
      check_numbers(expected, scales, name .. ".scales")
      local function skip(i) return broken[math.ceil(i / 32)] or halved[math.ceil(i / 32)] end
      check_codes(support.flat(tensors[name .. ".codes"]), bits_of(codes, format), format, name, skip)
      local values = support.flat(fp8.dequantize_blockwise(codes, {
        absmax = state.absmax, map = format, blocksize = state.blocksize, dtype = "f32",
      }))
      check_numbers(support.flat(tensors[name .. ".dequantized"]), values, name .. ".dequantized", skip)
      for i, value in ipairs(values) do assert(not broken[math.ceil(i / 32)] or value ~= value) end
    end

    for _, kind in ipairs(names_of "^mx%.(.-)%.x$") do
      it(kind, function()
        local count = 0
        for mode in pairs(modes) do
          for _, format in ipairs {"e2m1", "e2m3", "e3m2", "e4m3", "e5m2"} do
            local inexact = mode == "rceil" and (kind:match "^edges" or kind:match "^tiny")
            if not inexact and tensors[("mx.%s.%s.%s.codes"):format(kind, mode, format)] then
              check(kind, mode, format)
              count = count + 1
            end
          end
        end
        assert.is_true(count >= 2)
      end)
    end
  end)

  describe("Golden NVFP4", function()
    local f32 = require("spec.support.reference").f32
    local largest_float = (2 - 2 ^ -23) * 2 ^ 127

    -- Transformer Engine's factor of an absmax for the scales of blocks, and whether codes are decoded by way of that.
    local function level(absmax)
      local factor = f32(2688 / absmax)
      local direct = factor <= largest_float and absmax <= largest_float / 448
      if factor > largest_float then factor = largest_float end
      return f32(1 / factor), direct
    end

    -- What a block's scale S in E4M3 makes of codes.
    local function decoded(stored, absmax)
      if not absmax then return stored end
      local decode, direct = level(absmax)
      return direct and f32(f32(stored * absmax) * f32(1 / 2688)) or f32(stored * decode)
    end

    local e4m3_codes = fp8.empty(256, {dtype = "e4m3"})
    for i = 0, 255 do e4m3_codes:data()[i] = i end
    local e4m3_values = support.flat(e4m3_codes:to("f32"))

    -- @param broken whether the element of a position is in a block that is to be NaN
    local function check(name, x, blocks, options, absmax_of, broken)
      local codes, state = fp8.quantize_blockwise(x:to(device), "e2m1", blocks, options)
      local rows, columns = x:size(1), x:size(2)
      local bytes, scales = tensors[name .. ".scales"], support.flat(state.absmax)
      local across = math.ceil(columns / blocks[2])
      local of_bytes = support.flat(bytes)
      local values = support.flat(fp8.dequantize_blockwise(codes, {
        absmax = state.absmax, map = "e2m1", blocksize = state.blocksize, dtype = "f32",
      }))
      local expected_scales, skip = {}, {}
      for i = 0, rows * columns - 1 do
        local row, column = math.floor(i / columns), i % columns
        local block = math.floor(row / blocks[1]) * across + math.floor(column / blocks[2]) + 1
        if broken and broken(row, block) then
          skip[i + 1] = true
          expected_scales[block] = 0 / 0
          assert(values[i + 1] ~= values[i + 1], name)
        else
          local stored = e4m3_values[of_bytes[row * bytes:size(2) + math.floor(column / 16) + 1] + 1]
          expected_scales[block] = decoded(stored, absmax_of and absmax_of(row + 1))
        end
      end
      check_numbers(expected_scales, scales, name .. ".scales")
      local function skipped(i) return skip[i] end
      check_codes(support.flat(tensors[name .. ".codes"]), bits_of(codes, "e2m1"), "e2m1", name, skipped)
      local dequantized = tensors[name .. ".dequantized"]
      local _, direct = level(absmax_of and absmax_of(1) or 1)
      if dequantized and direct then
        check_numbers(support.flat(dequantized), values, name .. ".dequantized", skipped)
      end
    end

    local signs = support.flat(tensors["rht.signs.te"])

    for _, kind in ipairs(names_of "^nvfp4%.(.-)%.x$") do
      it(kind, function()
        local prefix = "nvfp4." .. kind
        local x = tensors[prefix .. ".x"]
        local absmax = x:to("f32"):abs():max():item()
        local wide = support.flat(x)
        local function of_tensor() return absmax end
        local two = {scale_rounding = "e4m3", second_scale = "tensor"}
        local is_broken = not is_finite(absmax)
        local all_broken = is_broken and function() return true end or nil
        check(prefix .. ".te", x, {1, 16}, two, of_tensor, all_broken)
        check(prefix .. ".te_t", x:t(), {1, 16}, two, of_tensor, all_broken)
        check(prefix .. ".te2d", x, {16, 16}, two, of_tensor, all_broken)
        check(prefix .. ".te2d_t", x:t(), {16, 16}, two, of_tensor, all_broken)
        local broken_blocks, broken_rows, row_absmax = {}, {}, {}
        for i, number in ipairs(wide) do
          local row = math.ceil(i / x:size(2))
          row_absmax[row] = math.max(row_absmax[row] or 0, math.abs(number))
          if not is_finite(number) then broken_blocks[math.ceil(i / 16)], broken_rows[row] = true, true end
        end
        check(prefix .. ".te_single", x, {1, 16}, {scale_rounding = "e4m3"}, nil,
          function(_, block) return broken_blocks[block] end)
        check(prefix .. ".te_rows", x, {1, 16}, {scale_rounding = "e4m3", second_scale = "row"},
          function(row) return row_absmax[row] end, function(row) return broken_rows[row + 1] end)
        if tensors[prefix .. ".te_rht_t.codes"] then
          local transformed = fp8.hadamard(x:t():to(device), 16, signs):to("cpu")
          local largest = transformed:to("f32"):abs():max():item()
          assert.equal(tensors[prefix .. ".te_rht_t.amax"]:to("f32"):item(), largest)
          check(prefix .. ".te_rht_t", transformed, {1, 16}, two, function() return largest end)
        end
      end)
    end
  end)

  describe("Golden Hadamard transform", function()
    local transforms = {
      te16 = {16, "te"}, plain16 = {16}, plain32 = {32}, given16 = {16, "given16"}, given32 = {32, "given32"},
    }

    -- The bound on what any order of sums may be off by.
    local function check_close(x, y, exact, length, dtype, name)
      local numbers, result, wanted = support.flat(x), support.flat(y), support.flat(exact)
      local columns = x:size(-1)
      for i, value in ipairs(result) do
        local column = (i - 1) % columns
        local first, sum = i - column % length, 0
        for j = first, first + length - 1 do sum = sum + math.abs(numbers[j]) end
        local bound = (length + 1) * 2 ^ -24 * sum / math.sqrt(length)
        if dtype == "bf16" then bound = bound + math.abs(wanted[i]) * 2 ^ -8 end
        assert(math.abs(value - wanted[i]) <= bound, name)
      end
    end

    for _, case in ipairs(names_of "^rht%.(%w+%.%w+)%.x$") do
      it(case, function()
        local x, dtype = tensors["rht." .. case .. ".x"], case:match "^%w+"
        for name, transform in pairs(transforms) do
          local length, of = transform[1], transform[2]
          local signs = of and support.flat(tensors["rht.signs." .. of]) or nil
          local y = fp8.hadamard(x:to(device), length, signs):to("cpu")
          local full = ("rht.%s.%s"):format(case, name)
          if length == 16 and (dtype == "bf16" or case:match "dyadic") then support.equal(y, tensors[full]) end
          local exact = tensors[full .. ".exact"]
          if exact then check_close(x, y, exact, length, dtype, full) end
        end
      end)
    end

    it("cancels out of a product", function()
      local a, b = tensors["rht.gemm.a"]:to(device), tensors["rht.gemm.b"]:to(device)
      local signs = support.flat(tensors["rht.signs.te"])
      local a_t, b_t = fp8.hadamard(a, 16, signs), fp8.hadamard(b, 16, signs)
      support.equal(a_t, tensors["rht.gemm.a_t"])
      support.equal(b_t, tensors["rht.gemm.b_t"])
      support.equal(fp8.matmul(a_t, b_t:t()), tensors["rht.gemm.y"])
    end)
  end)
end)

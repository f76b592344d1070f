-- Scales that follow from more than an absmax: other statistics of a block, candidates, and a second scale with room
-- for them, against the slow reference; and the recipes that have them.
local fp8 = require "fp8"
local reference = require "spec.support.reference"
local support = require "spec.support"

local fails = support.fails

--- Values and scales of x by the reference, and by fp8.quantize_blockwise and back; `format` may be a map.
local function compare(x, format, scale, options, device)
  local rows, columns = x.shape[1], x.shape[2]
  local codes, state = fp8.quantize_blockwise(x:to(device), format, scale, options)
  local values = fp8.dequantize_blockwise(codes, state)
  local found_scales, found = support.flat(state.absmax), support.flat(values)
  local more = {found = found_scales}
  for name, value in pairs(options) do more[name] = value end
  local listed = type(format) == "string" and format or format:totable()
  local want, want_scales = reference.fake_quantize(support.flat(x), listed, scale, {rows, columns}, x.dtype,
    options.scale_rounding, nil, more)
  assert.equal(#want_scales, #found_scales)
  for i, expected in ipairs(want_scales) do
    -- Sums in another order may differ in the last bit.
    local near = math.abs(found_scales[i] - expected) <= 2 ^ -22 * math.abs(expected)
    assert.is_true(near or expected ~= expected and found_scales[i] ~= found_scales[i],
      ("scale %d is %g, not %g"):format(i, found_scales[i], expected))
  end
  local different = 0
  for i, expected in ipairs(want) do
    if found[i] ~= expected and not (expected ~= expected and found[i] ~= found[i]) then different = different + 1 end
  end
  assert.is_true(different <= #want / 500, ("%d of %d values differ"):format(different, #want))
end

support.each_device(function(device)
  describe("A fitted scale on " .. device, function()
    local kinds = {
      {range = {root_mean_square = 2.5}}, {range = {root_mean_square = 12.1, mean_magnitude = -12.2}},
      {range = {mean_magnitude = 3}, headroom = 1.5}, {candidates = {1, 1.5}}, {candidates = {2, 1, 0.7, 0.4}},
      {range = {root_mean_square = 3}, candidates = {0.5, 1}},
    }
    for i, fields in ipairs(kinds) do
      it("is that of the reference, kind " .. i, function()
        for _, shape in ipairs {{7, 100}, {333, 7}, {1, 1}, {33, 64}, {20, 40}} do
          for _, format in ipairs {"e2m1", "int4", "e4m3", "e3m2", "nf4"} do
            for _, scale in ipairs {"tensor", "row", "column", 16, {1, 32}, {16, 16}, {5, 3}} do
              for _, dtype in ipairs {"f32", "bf16"} do
                local options = {}
                for name, value in pairs(fields) do options[name] = value end
                options.scale_rounding = ({"none", "mx", "power_of_two"})[#format % 3 + 1]
                compare(fp8.randn(shape):to(dtype), format, scale, options, device)
              end
            end
          end
        end
      end)
    end

    it("is the best of eight for any map, whatever their order", function()
      local skewed = fp8.cat {fp8.linspace(-0.3, 0, 100), fp8.linspace(0.007, 1, 156)}
      local maps = {
        fp8.create_dynamic_map(), fp8.create_float_map(3, 0), skewed, skewed:flip(1) * -1,
        fp8.cat {fp8.linspace(-1, 0.999, 128), fp8.linspace(0.9991, 1, 128)},
      }
      for _, map in ipairs(maps) do
        for _, candidates in ipairs {
          {1, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65}, {0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1},
        } do
          for _, scale in ipairs {{1, 32}, {1, 16}, {32, 1}, 700} do
            for _, size in ipairs {1, 1e-30} do
              compare(fp8.randn(33, 70) * size, map, scale, {candidates = candidates}, device)
            end
          end
        end
      end
    end)

    it("adds up long blocks in parts", function()
      for _, fields in ipairs {kinds[2], kinds[6]} do
        compare(fp8.randn(200, 333), "int4", "tensor", fields, device)
        compare(fp8.randn(20000, 3), "e2m1", "column", fields, device)
        compare(fp8.randn(3, 20000), "e2m1", 16384, fields, device)
      end
    end)

    it("may be in E4M3 under one with room for candidates", function()
      for _, second in ipairs {"tensor", "row", "none"} do
        for _, scale in ipairs {{1, 16}, second ~= "row" and {16, 16} or {1, 8}, {1, 5}} do
          for _, largest in ipairs {256, 448, 100} do
            local options = {
              scale_rounding = "e4m3", second_scale = second, candidates = {1, 1.5},
              largest_scale = second ~= "none" and largest or nil,
            }
            compare(fp8.randn(7, 100) * fp8.randn(7, 1):exp(), "e2m1", scale, options, device)
          end
        end
      end
    end)

    it("maps the largest to 6 or to 4, whichever is nearer to all", function()
      -- The first row has nothing between 4/6 and all of its largest, the second has 5/6 of it.
      local x = fp8.tensor({{6, 4, 3, 2}, {6, 5, 3, 2}, {0, 0, 0, 0}}, {device = device})
      local codes, state = fp8.quantize_blockwise(x, "e2m1", {1, 4}, {candidates = {1, 1.5}})
      support.equal(state.absmax, fp8.tensor {1, 1.5, 0})
      support.equal(fp8.dequantize_blockwise(codes, state), fp8.tensor {{6, 4, 3, 2}, {6, 4.5, 3, 2.25}, {0, 0, 0, 0}})
      local _, equals = fp8.quantize_blockwise(fp8.tensor({0, 4}, {device = device}), "e2m1", 2, {candidates = {2, 1}})
      assert.near(4 / 6 * 2, equals.absmax:item(), 1e-6) -- both are exact: the first
    end)

    it("cuts off where the statistics say, and not where they say nothing", function()
      local x = fp8.tensor({{1, -1, 1, 1, 1, 1, 1, 9}, {2, -2, 2, 2, 2, 2, 2, 2}}, {device = device})
      local codes, state = fp8.quantize_blockwise(x, "int4", "row", {range = {mean_magnitude = 3.5}})
      support.equal(state.absmax, fp8.tensor {1, 1})
      support.equal(fp8.dequantize_blockwise(codes, state):sum(2), fp8.tensor {12, 12})
      -- 12.1 · 2 - 12.2 · 2 is below 0.
      local _, other = fp8.quantize_blockwise(x, "int4", "row", {range = {root_mean_square = 12.1,
        mean_magnitude = -12.2}})
      assert.near(2 / 7, other.absmax[2]:item(), 1e-7)
    end)

    it("shows what is not finite, and takes the smallest and the largest numbers", function()
      for _, options in ipairs {
        {candidates = {1, 1.5}}, {range = {root_mean_square = 2}},
        {candidates = {1, 1.5}, scale_rounding = "e4m3", second_scale = "row", largest_scale = 256},
      } do
        for _, bad in ipairs {0 / 0, math.huge, -math.huge} do
          local x = fp8.ones(3, 32, {device = device})
          x[2]:narrow(1, 5, 1):fill_(bad)
          local values = fp8.dequantize_blockwise(fp8.quantize_blockwise(x, "e2m1", "row", options))
          support.equal(values:isnan():sum(2), fp8.tensor({0, 32, 0}, {dtype = "i64"}))
        end
        for _, size in ipairs {2 ^ -149, 1e-42, 1e-30, 1e30, 3e38} do
          local x = (fp8.rand(4, 32) + 0.1) * size
          local codes, state = fp8.quantize_blockwise(x:to(device), "e2m1", "row", options)
          assert.is_true(state.absmax:isfinite():all():item() == 1, size)
          local values = fp8.dequantize_blockwise(codes, state)
          assert.is_true(values:isfinite():all():item() == 1, size)
          if size > 1e-40 and size < 1e35 then assert.is_true(support.error(values, x) < 0.2, size) end
        end
      end
      local empty, state = fp8.quantize_blockwise(fp8.zeros(0, 8, {device = device}), "e2m1", "row",
        {candidates = {1, 2}})
      assert.same({0, 8}, empty.shape)
      assert.equal(0, state.absmax:numel())
    end)

    it("rounds stochastically with the scale that the nearest values choose", function()
      local x = fp8.randn(16, 64, {device = device})
      local options = {candidates = {1, 1.5}, rounding = "stochastic"}
      local _, nearest = fp8.quantize_blockwise(x, "e2m1", 16, {candidates = {1, 1.5}})
      local _, state = fp8.quantize_blockwise(x, "e2m1", 16, options)
      support.equal(state.absmax, nearest.absmax)
    end)

    -- 10⁶ draws: the mean within 4 standard errors, and every result a neighbour.
    for name, format in support.sorted_pairs {luq = fp8.recipes.luq.grad_output.format, e2m1 = "e2m1"} do
      it("has the right mean under stochastic rounding, " .. name, function()
        fp8.manual_seed(11)
        local draws, columns = 2 ^ 15, 32
        local x = (fp8.rand(1, columns) * 2 - 1):to(device)
        x:narrow(2, 1, 1):fill_(1)
        x:narrow(2, 2, 3):mul_(2 ^ -8) -- below the smallest power of two: it underflows, or does not
        local all = x:expand(draws, columns):contiguous()
        local values = fp8.dequantize(fp8.quantize(all, format, {rounding = "stochastic"})):to "cpu"
        local mean, low, high = values:mean(1):totable(), values:min(1):totable(), values:max(1):totable()
        for i, value in ipairs(support.flat(x)) do
          local chance = high[i] > low[i] and (value - low[i]) / (high[i] - low[i]) or 0
          local error = (high[i] - low[i]) * math.sqrt(chance * (1 - chance) / draws)
          assert.is_true(low[i] <= value + 1e-7 and value <= high[i] + 1e-7)
          assert.near(value, mean[i], 4 * error + 1e-6)
        end
      end)
    end
  end)
end)

if fp8.cuda.is_available() then
  it("a fitted scale, its codes and stochastic draws are the same on both devices", function()
    for _, dtype in ipairs {"f32", "bf16"} do
      for _, scale in ipairs {"tensor", "row", "column", {1, 16}, {16, 16}, {32, 1}, 512, 1000, 9000} do
        for _, options in ipairs {
          {candidates = {1, 1.5}}, {range = {root_mean_square = 2.5, mean_magnitude = 0.3}},
          {candidates = {1, 1.5}, rounding = "stochastic", range = {root_mean_square = 3}},
          {candidates = {1, 1.5}, scale_rounding = "e4m3", second_scale = "tensor", largest_scale = 256},
        } do
          local x = fp8.randn(scale == "tensor" and 3330 or 333, 120):to(dtype)
          for _, format in ipairs {"e2m1", "int4", "e4m3", fp8.recipes.luq.grad_output.format} do
            local found = {}
            for i, device in ipairs {"cpu", "cuda"} do
              fp8.manual_seed(4)
              local codes, state = fp8.quantize_blockwise(x:to(device), format, scale, options)
              found[i] = {fp8.dequantize_blockwise(codes, state), state.absmax}
            end
            support.equal(found[2][2], found[1][2])
            support.equal(found[2][1], found[1][1])
          end
        end
      end
    end
  end)

  it("a fitted scale without candidates is the same in more blocks than the device has room for at once", function()
    local x = fp8.randn(20000, 640):to "bf16" * fp8.exp(fp8.randn(20000, 1)):to "bf16"
    local options = {range = {root_mean_square = 2.5, mean_magnitude = 0.3}}
    local _, expected = fp8.quantize_blockwise(x, "e2m1", "row", options)
    local _, got = fp8.quantize_blockwise(x:to "cuda", "e2m1", "row", options)
    support.equal(got.absmax, expected.absmax)
  end)
end

describe("A wrong fit", function()
  local function refused(message, fields)
    local operand = {format = "e2m1", scale = {1, 16}}
    for field, value in pairs(fields) do operand[field] = value end
    fails(message, fp8.Linear, 4, 4, {recipe = {input = operand, weight = "full", grad_output = "full"}})
  end

  it("is refused with the name of the field", function()
    refused("recipe.input.range must be a table {root_mean_square =, mean_magnitude =}, got 2", {range = 2})
    refused("recipe.input.range: unknown field mean_magnitud; did you mean mean_magnitude?",
      {range = {mean_magnitud = 1}})
    refused("recipe.input.range.mean_magnitude must be a number", {range = {mean_magnitude = "1"}})
    refused("recipe.input.range.root_mean_square must be a number", {range = {root_mean_square = 1 / 0}})
    refused("recipe.input.range must have root_mean_square", {range = {}})
    for _, candidates in ipairs {
      6, {}, {0}, {1, -1}, {1, "2"}, {1, nil, 2}, {1, 0 / 0}, {1, extra = 2}, {1, 2, 3, 4, 5, 6, 7, 8, 9},
    } do
      refused("recipe.input.candidates must be a list of 1 to 8 numbers above 0", {candidates = candidates})
    end
    refused("recipe.input: unknown field candidate; did you mean candidates?", {candidate = {1}})
    refused("recipe.input.largest_scale must be a number above 0 and at most 448, got 449", {largest_scale = 449})
    refused("recipe.input.largest_scale has no meaning without second_scale", {largest_scale = 256})
    refused("recipe.input.range has no meaning beside constant_scale",
      {range = {mean_magnitude = 1}, constant_scale = 1})
    refused("recipe.input.candidates has no meaning beside history", {candidates = {1}, scale = "tensor", history = 2})
    fails("quantize: options.candidates must be a list", fp8.quantize, fp8.ones(4), "e2m1", {candidates = 3})
  end)
end)

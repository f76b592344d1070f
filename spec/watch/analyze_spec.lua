-- fp8.analyze against a slow reference.
local fp8 = require "fp8"
local reference = require "spec.support.reference"
local statistics = require "spec.support.statistics"
local support = require "spec.support"

local fails = support.fails
local formats, same, expected_statistics = statistics.formats, statistics.same, statistics.expected

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
              local rule = scale == "tensor" and scale or blocksize
              local values, factors = reference.fake_quantize(list, formats[name].format, rule, {1, #list})
              local entry = result[name][tostring(scale)]
              assert.equal(name, entry.format)
              same(expected_statistics(list, values, factors, formats[name], blocksize), entry, name .. " " .. scale)
            end
          end
        end
      end)
    end

    it("takes functions of a script, and shows what is left alone", function()
      fp8.manual_seed(8)
      local x = fp8.randn(16, 30, {device = device})
      local shape
      local function halves(y)
        shape = y.shape
        return (y * 2):round() / 2 + fp8.rand(y.shape, {device = device}) * 0
      end
      local seed_before = {fp8.rand(1):item(), fp8.rand(1):item()}
      fp8.manual_seed(8)
      fp8.randn(16, 30, {device = device})
      assert.equal(seed_before[1], fp8.rand(1):item())
      local result = fp8.analyze(x,
        {formats = {"full", halves, mine = {quantize = halves}, e4m3 = "e4m3"}, scales = {"row"}})
      assert.equal(seed_before[2], fp8.rand(1):item()) -- what functions draw is drawn again
      assert.same({16, 30}, shape)
      assert.same({"full", "function", "e4m3", "mine"},
        {result[1].format, result[2].format, result[3].format, result[4].format})
      local lost = x - halves(x)
      local snr = 10 * math.log10((x * x):sum():item() / (lost * lost):sum():item())
      assert.near(snr, result.mine["-"].snr, 1e-3)
      assert.near(snr, result["function"]["-"].snr, 1e-3)
      assert.equal(math.huge, result.full["-"].snr)
      assert.near(x:abs():max():item(), result.full["-"].absmax, 1e-6)
      assert.equal(result.e4m3.row.absmax, result.full["-"].absmax)
      assert.is_truthy(tostring(result):find "\n  full +%- +exact")
      assert.equal(snr < 40, fp8.analyze(x, {formats = halves})[1].snr < 40)
      local blocks = fp8.analyze(x, {formats = {"full", {quantize = halves}}, blocks = true})
      assert.equal(0, blocks.full["-"].blocks)
      assert.equal(0, blocks["function"]["-"].blocks)
      fails("recipe: quantize of own must return a tensor, got nil", fp8.analyze, x, {formats = function() end})
    end)

    it("sums to one part in 100,000 however long the tensor is, and wherever it begins", function()
      fp8.manual_seed(6)
      local all = fp8.randn(300001)
      for start = 1, 5 do
        local x = all:narrow(1, start, 299996)
        local list = support.flat(x)
        local values, factors = reference.fake_quantize(list, "e4m3", 128, {1, #list})
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
end)

describe("fp8.analyze", function()
  it("refuses what it can't analyze", function()
    local x = fp8.randn(3, 4)
    fails("analyze: a tensor is needed, got nil", fp8.analyze)
    fails("analyze: the tensor must be f32, f16 or bf16, got i64", fp8.analyze, fp8.arange(3, {dtype = "i64"}))
    fails("analyze: options must be a table, got number", fp8.analyze, x, 3)
    fails("analyze: unknown option format", fp8.analyze, x, {format = "e4m3"})
    fails("analyze: e3m4.format must be a map (a tensor of 256 values) or one of e2m1, e2m3, ", fp8.analyze, x,
      {formats = {"e3m4"}})
    fails("analyze: mine.format: ", fp8.analyze, x, {formats = {mine = fp8.zeros(3)}})
    fails("analyze: e4m3.scale must be", fp8.analyze, x, {formats = "e4m3", scales = {"column wise"}})
    fails("analyze: e4m3: unknown field scales", fp8.analyze, x, {formats = {{format = "e4m3", scales = "row"}}})
    fails("analyze: formats and scales must name at least one each", fp8.analyze, x, {formats = {}})
    fails("analyze: formats and scales must name at least one each", fp8.analyze, x, {scales = {}})
  end)
end)

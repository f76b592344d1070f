-- The names that fp8.analyze gives to formats and scales: no two variants share theirs.
local fp8 = require "fp8"
local support = require "spec.support"

-- What a row says besides its names.
local function figures(row)
  local copy = {}
  for name, value in pairs(row) do copy[name] = value end
  copy.format, copy.scale = nil, nil
  return copy
end

-- The figures of formats analyzed one by one.
local function one_by_one(x, formats)
  local list = {}
  for i, format in ipairs(formats) do list[i] = figures(fp8.analyze(x, {formats = {format}})[1]) end
  return list
end

support.each_device(function(device)
  describe("fp8.analyze", function()
    fp8.manual_seed(2)
    local x = (fp8.randn(48, 96) * fp8.randn(48, 96):exp()):to(device)
    x[1]:narrow(1, 1, 1):fill_(60) -- 1.875 · 2^5, which "mx" saturates and a power of two above does not

    it("tells the roundings of a scale apart", function()
      for _, case in ipairs {{"tensor", "tensor"}, {"row", "row"}, {64, "64"}, {{1, 32}, "1x32"}} do
        local scale, name = unpack(case)
        local formats = {
          {format = "e4m3", scale = scale}, {format = "e4m3", scale = scale, scale_rounding = "mx"},
          {format = "e4m3", scale = scale, scale_rounding = "power_of_two"},
        }
        local result, expected = fp8.analyze(x, {formats = formats}), one_by_one(x, formats)
        local text = tostring(result)
        for i, ending in ipairs {"", "_mx", "_power_of_two"} do
          assert.equal(name .. ending, result[i].scale)
          assert.equal(result[i], result.e4m3[name .. ending])
          assert.same(expected[i], figures(result[i]))
          assert.is_truthy(text:find(("\n  e4m3 +%s +%%d"):format(name .. ending)))
        end
        assert.are_not.same(expected[1], expected[2])
        assert.are_not.same(expected[2], expected[3])
      end
      local formats = {{format = "e5m2", scale = "row", scale_rounding = "none"}}
      assert.equal("row", fp8.analyze(x, {formats = formats})[1].scale)
    end)

    it("numbers maps without names", function()
      local wide, narrow = fp8.create_map(true, 5, 2, 8), fp8.create_map(true, 2, 5, 8)
      local formats = {
        {format = wide, scale = "tensor"}, {format = narrow, scale = "tensor"}, {format = wide, scale = "row"},
        {format = fp8.recipes.mixed.input.format, scale = "tensor"},
      }
      local result, expected = fp8.analyze(x, {formats = formats}), one_by_one(x, formats)
      for i, row in ipairs {result.map.tensor, result.map2.tensor, result.map.row, result.e4m3_map.tensor} do
        assert.equal(result[i], row)
        assert.same(expected[i], figures(row))
      end
      assert.is_truthy(tostring(result):find "\n  map +tensor +%d.-\n  map2 +tensor +%d.-\n  map +row +%d")
    end)

    it("leaves given names to what they were given to", function()
      local maps = {fp8.create_map(true, 5, 2, 8), fp8.create_map(true, 3, 4, 8), fp8.create_map(true, 2, 5, 8)}
      local result = fp8.analyze(x, {formats = {"e4m3", maps[1], map = maps[2], e4m3 = maps[3]}, scales = "tensor"})
      local expected = one_by_one(x, {
        {format = "e4m3", scale = "tensor"}, {format = maps[1], scale = "tensor"},
        {format = maps[3], scale = "tensor"}, {format = maps[2], scale = "tensor"},
      })
      for i, name in ipairs {"e4m32", "map2", "e4m3", "map"} do
        assert.equal(name, result[i].format)
        assert.equal(result[i], result[name].tensor)
        assert.same(expected[i], figures(result[i]))
      end
    end)
  end)
end)

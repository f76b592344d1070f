-- How many elements are in which bin. What is literal here is PyTorch's.
local core = require "fp8.core"
local fp8 = require "fp8"
local support = require "spec.support"

--- The bin, from 1, of a value between edges, or nil.
local function bin_by_hand(edges, value)
  for i = 1, #edges - 1 do
    local is_last = i == #edges - 1
    if value >= edges[i] and (value < edges[i + 1] or is_last and value == edges[i + 1]) then return i end
  end
end

local function histogram_by_hand(values, edges, weights)
  local counts = {}
  for i = 1, #edges - 1 do counts[i] = 0 end
  for i, value in ipairs(values) do
    local bin = bin_by_hand(edges, value)
    if bin then counts[bin] = counts[bin] + (weights and weights[i] or 1) end
  end
  return counts
end

support.each_device(function(device)
  local options = {device = device}
  local function integers(values, dtype) return fp8.tensor(values, {dtype = dtype or "i64", device = device}) end

  describe("histogram", function()
    it("counts between edges, at equal distances or not, of every dtype", function()
      local uneven = fp8.tensor({-4, -1.5, -1, 0, 0.25, 4}, options)
      for _, dtype in ipairs {"f32", "f16", "bf16", "e4m3", "e5m2", "u8", "i32", "i64"} do
        local x = (fp8.randn(12, 50, options) * 2):to(dtype):t()
        local counts, edges = x:histogram(uneven)
        assert.same({"f32", uneven:totable()}, {counts.dtype, edges:totable()})
        assert.same(histogram_by_hand(support.flat(x), uneven:totable()), counts:totable())
        counts, edges = x:histogram(13, {range = {-3, 2}})
        assert.equal("f32", edges.dtype)
        assert.same(histogram_by_hand(support.flat(x), edges:totable()), counts:totable())
        counts, edges = x:histogram(6)
        assert.equal(600, counts:sum():item())
        assert.same({x:min():item(), x:max():item()}, {edges[1]:item(), edges[7]:item()})
      end
    end)

    it("counts many, in few bins and in more than fit in a thread block", function()
      local x = fp8.rand(300000, options)
      for _, bins in ipairs {1, 64, 1000, 20000} do
        local counts, edges = x:histogram(bins, {range = {0, 1}})
        assert.same({{bins}, {bins + 1}}, {counts.shape, edges.shape})
        assert.equal(300000, counts:sum():item())
        -- Those below each edge, found the other way around.
        local below = x:sort():searchsorted(edges)
        support.equal(counts:narrow(1, 1, bins - 1),
          (below:narrow(1, 2, bins - 1) - below:narrow(1, 1, bins - 1)):float())
      end
    end)

    it("adds weights up, and divides by the sum and the widths", function()
      local x = fp8.tensor({1, 2, 3}, options)
      local edges, weight = fp8.tensor({0, 2, 5}, options), fp8.tensor({1, 2, 4}, options)
      assert.same({1, 6}, x:histogram(edges, {weight = weight}):totable())
      support.close(x:histogram(edges, {weight = weight, density = true}), fp8.tensor {1 / 14, 2 / 7})
      support.close(x:histogram(edges, {density = true}), fp8.tensor {1 / 6, 2 / 9})
      local many, heavy = fp8.randn(500, options), fp8.rand(500, options)
      local list = fp8.tensor({-2, -0.5, 0, 1, 1.5}, options)
      support.close(many:histogram(list, {weight = heavy}),
        fp8.tensor(histogram_by_hand(support.flat(many), list:totable(), support.flat(heavy))))
      local on_edges = fp8.tensor({-1, 0, 0, 2, 2, 3, 0 / 0}, options)
      assert.same({2, 2}, on_edges:histogram(fp8.tensor({0, 1, 2}, options), {weight = fp8.ones(7, options)}):totable())
      support.fails("histogram: the weights must have shape (3), got (2)", function()
        x:histogram(edges, {weight = fp8.ones(2, options)})
      end)
    end)

    it("has PyTorch's edges where a range has no extent, and for no elements", function()
      local ones = fp8.ones(3, options)
      for _, case in ipairs {
        {ones, 4, nil, {0, 0, 3, 0}, {0.5, 0.75, 1, 1.25, 1.5}},
        {ones, 4, {2, 2}, {0, 0, 0, 0}, {1.5, 1.75, 2, 2.25, 2.5}},
        {fp8.zeros(0, options), 4, nil, {0, 0, 0, 0}, {0, 0.25, 0.5, 0.75, 1}},
        {fp8.tensor({1, 0 / 0, math.huge}, options), 4, {0, 2}, {0, 0, 1, 0}, {0, 0.5, 1, 1.5, 2}},
      } do
        local counts, edges = case[1]:histogram(case[2], {range = case[3]})
        assert.same({case[4], case[5]}, {counts:totable(), edges:totable()})
      end
      assert.same({0, 1}, fp8.tensor({1, 2, 3}, options):histogram(fp8.ones(3, options)):totable())
      assert.same({1}, fp8.tensor(0.5, options):histogram(1, {range = {0, 1}}):totable())
      support.equal(fp8.zeros(0, options):histogram(3, {density = true}), fp8.full({3}, 0 / 0))
      local far = fp8.tensor({-1e30, 1e-3}, options)
      assert.same({1, 0, 1}, far:histogram(3):totable())
    end)

    it("refuses ranges and bins that are none", function()
      local x = fp8.tensor({1, 0 / 0}, options)
      support.fails("histogram: the range of the elements is not finite", function() x:histogram(4) end)
      support.fails("histogram: option range: 3 is above 2", function() x:histogram(4, {range = {3, 2}}) end)
      support.fails("histogram: option range must be a list of two", function() x:histogram(4, {range = {3}}) end)
      support.fails("histogram: option range must be a table", function() x:histogram(4, {range = 3}) end)
      support.fails("histogram: option range is for a number", function() x:histogram(x, {range = {0, 1}}) end)
      support.fails("histogram: the number of bins must be a whole number from 1 on, got 0", function()
        x:histogram(0)
      end)
      support.fails("histogram: the edges of at least one bin", function() x:histogram(fp8.ones(1, options)) end)
      support.fails("histogram: the weights must be a tensor, got number", function() x:histogram(2, {weight = 1}) end)
    end)
  end)

  describe("histc", function()
    it("gives the counts in x's dtype", function()
      for _, dtype in ipairs {"f32", "f16", "bf16"} do
        local y = fp8.tensor({1, 2, 1, 9, 0 / 0}, options):to(dtype):histc(4, 0, 3)
        assert.same({dtype, {0, 2, 1, 0}}, {y.dtype, y:totable()})
      end
      local whole = integers({1, 2, 1}):histc(4, 0, 3)
      assert.same({"f32", {0, 2, 1, 0}}, {whole.dtype, whole:totable()})
      assert.same({0, 0, 3, 0}, fp8.ones(3, options):histc(4):totable())
      assert.same({0, 0, 0, 0}, fp8.zeros(0, options):histc(4):totable())
      assert.same({100}, fp8.rand(5, options):histc().shape)
      support.fails("histc: min must be at most max, got 3 and 1", function() fp8.ones(3, options):histc(4, 3, 1) end)
      support.fails("histc: the range of the elements is not finite", function()
        fp8.tensor({1, math.huge}, options):histc(4)
      end)
      support.fails("histc: the number of bins", function() fp8.ones(3, options):histc(0) end)
    end)
  end)

  describe("bincount", function()
    it("counts integers", function()
      for _, dtype in ipairs {"u8", "i32", "i64"} do
        local y = integers({0, 1, 1, 5}, dtype):bincount()
        assert.same({"i64", {1, 2, 0, 0, 0, 1}}, {y.dtype, y:totable()})
      end
      assert.same({0}, integers({}):bincount().shape)
      assert.same({0, 0, 0}, integers({}):bincount(nil, 3):totable())
      assert.same({0, 2, 0, 0}, integers({1, 1}):bincount(nil, 4):totable())
      local many = fp8.randint(0, 30000, {200000}, options)
      local counts = many:bincount()
      assert.equal(200000, counts:sum():item())
      assert.equal(many:eq(17):sum():item(), counts[18]:item())
      support.equal(counts, core.index_add({counts:numel()}, 1, many, fp8.ones(200000, options)):to("i64"))
      local every_other = fp8.randint(0, 9, {50, 2}, options):select(2, 1)
      support.equal(every_other:bincount(), every_other:contiguous():bincount())
    end)

    it("adds weights up, in order where that is asked for", function()
      local y = integers({1, 1}):bincount(fp8.tensor({0.5, 0.25}, options), 4)
      assert.same({"f32", {0, 0.75, 0, 0}}, {y.dtype, y:totable()})
      assert.same({0, 5}, integers({1, 1}):bincount(integers {2, 3}):totable())
      local x, weights = fp8.randint(0, 9, {5000}, options), fp8.randn(5000, options)
      local sums, list, heavy = {}, support.flat(x), support.flat(weights)
      for i = 1, 9 do sums[i] = 0 end
      for i, bin in ipairs(list) do sums[bin + 1] = tonumber(require "ffi".new("float", sums[bin + 1] + heavy[i])) end
      support.close(x:bincount(weights), fp8.tensor(sums))
      fp8.set_deterministic(true)
      local in_order = x:bincount(weights):totable()
      fp8.set_deterministic(false)
      assert.same(sums, in_order)
    end)

    it("refuses all else", function()
      support.fails("bincount: integers from 0 on are needed, got -1", function() integers({0, 1, -1}):bincount() end)
      support.fails("bincount: integers are needed, got f32", function() fp8.ones(3, options):bincount() end)
      support.fails("bincount: argument 1: a tensor of 1 dimension is needed", function()
        integers({{1, 1}}):bincount()
      end)
      support.fails("bincount: minlength must be a whole number from 0 on, got -1", function()
        integers({1}):bincount(nil, -1)
      end)
      support.fails("bincount: the weights must have shape (2), got (1)", function()
        integers({1, 1}):bincount(fp8.ones(1, options))
      end)
    end)
  end)
end)

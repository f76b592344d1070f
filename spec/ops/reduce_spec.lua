local fp8 = require "fp8"
local support = require "spec.support"

local function reducer(name, values)
  if name == "sum" or name == "mean" then
    local sum = 0
    for _, value in ipairs(values) do sum = sum + value end
    return name == "sum" and sum or sum / #values
  end
  local best, position = values[1], 0
  for i, value in ipairs(values) do
    local better = name == "min" and value < best or name ~= "min" and value > best
    if better then best, position = value, i - 1 end
  end
  return name == "argmax" and position or best
end

--- Reduces a tensor over the set `reduced` of dimensions by walking its elements; returns values and shapes.
local function reference(name, x, reduced)
  local flat, shape = support.flat(x), x.shape
  local strides, stride = {}, 1
  for d = #shape, 1, -1 do
    strides[d], stride = stride, stride * shape[d]
  end
  local function walk(dimensions, i, offset, visit)
    if i > #dimensions then return visit(offset) end
    local d = dimensions[i]
    for k = 0, shape[d] - 1 do walk(dimensions, i + 1, offset + k * strides[d], visit) end
  end
  local kept, gone = {}, {}
  for d = 1, #shape do table.insert(reduced[d] and gone or kept, d) end
  local result = {}
  walk(kept, 1, 0, function(start)
    local values = {}
    walk(gone, 1, start, function(offset) table.insert(values, flat[offset + 1]) end)
    table.insert(result, reducer(name, values))
  end)
  local kept_shape, full_shape = {}, {}
  for d = 1, #shape do
    full_shape[d] = reduced[d] and 1 or shape[d]
    if not reduced[d] then table.insert(kept_shape, shape[d]) end
  end
  return result, kept_shape, full_shape
end

support.each_device(function(device)
  describe("reductions", function()
    for _, name in ipairs {"sum", "mean", "max", "min", "argmax"} do
      it(name .. " agrees with a walk over the elements, for any dimensions, strides and dtypes", function()
        math.randomseed(#name)
        fp8.manual_seed(#name)
        for trial = 1, 40 do
          local sizes, order = {}, {}
          for d = 1, math.random(1, 4) do
            sizes[d] = math.random(1, 7)
            table.insert(order, math.random(#order + 1), d)
          end
          local dtype = ({"f32", "bf16", "f16", "i32"})[trial % 4 + 1]
          local x = (fp8.randn(sizes, {device = device}) * 5):to(dtype):permute(order)
          local reduced, dimensions = {}, {}
          for d = 1, #sizes do
            if math.random() < 0.5 then
              reduced[d] = true
              table.insert(dimensions, math.random() < 0.5 and d or d - #sizes - 1)
            end
          end
          local expected, kept_shape, full_shape = reference(name, x, reduced)
          local y = x[name](x, dimensions)
          assert.same(kept_shape, y.shape)
          assert.same(full_shape, x[name](x, dimensions, true).shape)
          local exact = name ~= "sum" and name ~= "mean"
          local actual = support.flat(y)
          for i, value in ipairs(expected) do
            local limit = exact and 0 or ({f32 = 1e-5, bf16 = 8e-3, f16 = 1e-3})[y.dtype] or 0
            local size = math.max(math.abs(value), y.dtype == "f32" and 5 or 1)
            if not (math.abs(actual[i] - value) <= limit * size) then
              error(("%s of %s, element %d: expected %.9g, got %.9g"):format(name, dtype, i, value, actual[i]))
            end
          end
        end
      end)
    end

    it("give integers their own result dtypes", function()
      local x = fp8.tensor({{200, 100}, {50, 250}}, {dtype = "u8", device = device})
      assert.same({"i64", 600}, {x:sum().dtype, x:sum():item()})
      assert.same({"f32", 150}, {x:mean().dtype, x:mean():item()})
      assert.same({"u8", 250}, {x:max().dtype, x:max():item()})
      assert.same({"i64", 3}, {x:argmax().dtype, x:argmax():item()})
    end)

    it("sum long float32 rows and columns to 1e-6", function()
      local x = fp8.rand(1000, 3000, {device = device}) + 1
      local exact = 0
      for _, value in ipairs(support.flat(x:narrow(1, 1, 3))) do exact = exact + value end
      assert.is_true(math.abs(x:narrow(1, 1, 3):sum():item() / exact - 1) < 1e-6)
      local column = 0
      for _, value in ipairs(support.flat(x:select(2, 17))) do column = column + value end
      assert.is_true(math.abs(x:sum(1)[17]:item() / column - 1) < 1e-6)
      local ones = fp8.ones(5000, 4000, {device = device})
      assert.equal(2e7, ones:sum():item())
      assert.equal(1, ones:mean():item())
    end)

    it("propagate NaN, and take it as largest", function()
      local x = fp8.tensor({{1, 0 / 0, 3}, {4, 5, 6}}, {device = device})
      support.equal(x:max(2), fp8.tensor {0 / 0, 6})
      support.equal(x:min(2), fp8.tensor {0 / 0, 4})
      assert.same({1, 2}, x:argmax(2):totable())
    end)

    it("take the first of equal elements", function()
      local x = fp8.zeros(3000, {device = device})
      assert.equal(0, x:argmax():item())
      x:narrow(1, 1001, 2000):fill_(1)
      assert.equal(1000, x:argmax():item())
    end)

    it("of no elements are 0, NaN, or an error", function()
      local x = fp8.zeros(2, 0, {device = device})
      assert.same({0, 0}, x:sum(2):totable())
      support.equal(x:mean(2), fp8.tensor {0 / 0, 0 / 0})
      support.fails("no elements", function() x:max(2) end)
      assert.same({0}, x:max(1).shape)
    end)
  end)

  describe("softmax", function()
    local function reference_softmax(values)
      local largest, sum, result = math.max(unpack(values)), 0, {}
      for _, value in ipairs(values) do sum = sum + math.exp(value - largest) end
      for i, value in ipairs(values) do result[i] = math.exp(value - largest) / sum end
      return result
    end

    it("agrees with its definition over any dimension", function()
      local x = fp8.randn(4, 5, 6, {device = device}) * 4
      for dimension = 1, 3 do
        local y = x:softmax(dimension):transpose(dimension, 3)
        local log_y = x:log_softmax(dimension):transpose(dimension, 3)
        local source = x:transpose(dimension, 3)
        for i = 1, y:size(1) do
          for j = 1, y:size(2) do
            local expected = reference_softmax(source[i][j]:totable())
            local logs = {}
            for k, value in ipairs(expected) do logs[k] = math.log(value) end
            support.close(y[i][j], fp8.tensor(expected), 1e-6)
            support.close(log_y[i][j], fp8.tensor(logs), 1e-6)
          end
        end
      end
    end)

    it("does not overflow", function()
      local x = fp8.tensor({{1000, 1000, -1000}}, {device = device})
      assert.same({{0.5, 0.5, 0}}, x:softmax(2):totable())
      support.close(x:log_softmax(2):narrow(2, 1, 2), fp8.tensor {{math.log(0.5), math.log(0.5)}}, 1e-6)
    end)

    it("works on rows of any length and 16-bit dtypes", function()
      for _, n in ipairs {1, 31, 1000, 50304} do
        for dtype, tolerance in pairs {f32 = 1e-5, bf16 = 4e-3, f16 = 1e-3} do
          local x = fp8.randn(2, n, {device = device}):to(dtype)
          local total = x:softmax(2):to("f32"):sum(2):totable()
          assert.is_true(math.abs(total[1] - 1) < tolerance and math.abs(total[2] - 1) < tolerance)
        end
      end
    end)
  end)

  describe("cross_entropy", function()
    it("is the mean, sum or list of -log softmax at the targets", function()
      local logits = fp8.randn(7, 11, {device = device})
      local targets = fp8.tensor({0, 3, 10, 5, 5, 1, 9}, {dtype = "i64", device = device})
      local picked = -logits:log_softmax(2):gather(2, targets:view(7, 1)):view(7)
      support.close(fp8.cross_entropy(logits, targets, {reduction = "none"}), picked, 1e-6)
      support.close(fp8.cross_entropy(logits, targets), picked:mean(), 1e-6)
      support.close(fp8.cross_entropy(logits, targets:to("u8"), {reduction = "sum"}), picked:sum(), 1e-6)
    end)

    it("refuses targets out of range", function()
      local logits = fp8.zeros(2, 3, {device = device})
      for _, wrong in ipairs {3, -1, 2 ^ 40} do
        local targets = fp8.tensor({0, wrong}, {dtype = "i64", device = device})
        support.fails("out of range", function() fp8.cross_entropy(logits, targets):item() end)
      end
      local targets = fp8.zeros(2, {dtype = "i64", device = device})
      assert.is_true(math.abs(fp8.cross_entropy(logits, targets):item() - math.log(3)) < 1e-6)
    end)
  end)
end)

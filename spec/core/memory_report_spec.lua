-- fp8.memory_report: the bytes that a graph keeps, by operation.
local fp8 = require "fp8"
local support = require "spec.support"

local fails = support.fails

support.each_device(function(device)
  local on = {device = device}

  local function rows_of(report)
    local rows = {}
    for _, row in ipairs(report) do rows[row.operation] = {row.count, row.bytes} end
    return rows
  end

  describe("fp8.memory_report", function()
    it("counts what operations keep, each memory once, and parameters not at all", function()
      local layer, x = fp8.Linear(8, 4, on), fp8.randn(16, 8, on):requires_grad_()
      local report = fp8.memory_report(function()
        local y = layer(x * 2)          -- keeps 2x, 16 · 8 values
        local z = y:gelu()              -- y, 16 · 4
        return (z * z + y:exp()):sum()  -- z, which is kept twice; exp(y)
      end)
      assert.same({linear = {1, 512}, gelu = {1, 256}, mul = {2, 256}, exp = {1, 256}, add = {1, 0}, sum = {1, 0}},
        rows_of(report))
      assert.equal(512 + 256 + 256 + 256, report.total)
      assert.equal("linear", report[1].operation)
      local text = tostring(report)
      assert.is_truthy(text:find("linear%s+1%s+0.00%s+40.0%%"), text)
      assert.is_nil(text:find("add", 1, true))
    end)

    it("counts what layers keep beside their inputs, and views with what they show", function()
      local layer = fp8.LinearGlobal(32, 32, {device = device, native = true})
      local report = fp8.memory_report(function() return layer(fp8.randn(32, 32, on)):view(-1):sum() end)
      local linear = rows_of(report).linear
      assert.equal(1, linear[1])
      assert.is_true(linear[2] >= 32 * 32 and linear[2] < 32 * 32 * 4, linear[2])
      local x = fp8.randn(2, 8, 48, on):requires_grad_()
      local attention = rows_of(fp8.memory_report(fp8.self_attention(x * 1, 2))).self_attention
      assert.is_true(attention[2] >= 2 * 8 * 48 * 4)
    end)

    it("shows what recomputing saves", function()
      local layer, x = fp8.Linear(64, 64, on), fp8.randn(32, 64, on)
      local function f(input) return layer(layer(layer(input):relu()):relu()) end
      local all = fp8.memory_report(f(x)).total
      local again = fp8.memory_report(fp8.recompute(f, x))
      assert.equal(32 * 64 * 4, again.total)
      assert.is_true(all > 3 * again.total)
    end)

    it("refuses what has no graph", function()
      fails("memory_report: a function or a tensor is needed, got number", fp8.memory_report, 3)
      fails("memory_report: the function must return a tensor, got nil", fp8.memory_report, function() end)
      fails("memory_report: the tensor is the result of no recorded operation", fp8.memory_report, fp8.ones(1, on))
      fails("memory_report: the tensor is the result of no recorded operation", fp8.memory_report,
        fp8.ones(1, {device = device, requires_grad = true}))
    end)
  end)
end)

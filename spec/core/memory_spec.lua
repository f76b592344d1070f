-- Memory: no script has to call collectgarbage, and running out is an error like any other.
local core = require "fp8.core"
local fp8 = require "fp8"
local support = require "spec.support"

local fails, in_use = support.fails, support.in_use
local MiB, GiB = 2 ^ 20, 2 ^ 30

support.each_device(function(device)
  local on = {device = device}

  describe("The collector", function()
    for _, parts in ipairs {1, 16, 256} do
      it(("keeps 200 GiB, dropped in %d parts a GiB, below 4 GiB"):format(parts), function()
        local before = in_use(device)
        core.reset_peak_memory(device)
        for _ = 1, 200 do
          for _ = 1, parts do fp8.empty(GiB / 4 / parts, on) end
        end
        local peak = core.memory(device).peak
        assert.is_true(peak < 4 * GiB, ("the peak is %.2f GiB"):format(peak / GiB))
        assert.equal(before, in_use(device))
      end)
    end

    -- Garbage below 128 MiB on the CPU and 3 GiB on a GPU is left to Lua's own pace: many steps, and a bound above it.
    local rounds = device == "cpu" and 1 or 15
    local bound = device == "cpu" and 512 * MiB or 3.5 * GiB

    it("keeps up with tensors that hang together", function()
      local before = in_use(device)
      core.reset_peak_memory(device)
      for _ = 1, 50 * rounds do
        local x = fp8.empty(16 * MiB / 4, {device = device, requires_grad = true})
        local y = x:view(4, -1):t()
        y = y:narrow(1, 1, 4):expand(3, 4, 4)
        assert.is_true(y.requires_grad)
      end
      assert.is_true(core.memory(device).peak - before < bound)
    end)

    it("keeps up with training steps", function()
      local before = in_use(device)
      core.reset_peak_memory(device)
      local layer = fp8.Linear(64, 64, on)
      for _ = 1, 100 * rounds do
        layer(fp8.zeros(8192, 64, on)):relu():sum():backward()
      end
      assert.is_true(core.memory(device).peak - before < bound)
    end)
  end)

  describe("The counter", function()
    it("counts what tensors hold", function()
      local before = in_use(device)
      local x = fp8.zeros(1000, 1000, on)
      local half = fp8.zeros(1000, {device = device, dtype = "f16"})
      assert.equal(before + 4002000, core.memory(device).in_use)
      local view = x:narrow(1, 1, 10):t()
      assert.equal(before + 4002000, core.memory(device).in_use)
      assert.is_true(core.memory(device).peak >= before + 4002000)
      assert.equal(1000, half:numel())
      x, half = nil, nil -- luacheck: ignore
      assert.equal(before + 4000000, in_use(device))
      assert.equal(10, view:size(2))
      view = nil -- luacheck: ignore
      assert.equal(before, in_use(device))
    end)

    it("is what fp8.memory shows", function()
      local memory = fp8.memory and fp8.memory(device) or fp8.cuda.memory()
      assert.equal(core.memory(device).in_use, memory.in_use)
      assert.is_true(memory.peak >= memory.in_use)
      assert.is_true(memory.cached >= 0)
    end)

    it("is back where it was after errors", function()
      local before = in_use(device)
      for _ = 1, 100 do
        assert.is_false(pcall(function() return fp8.zeros(10, 3, on):matmul(fp8.zeros(4, 5, on)) end))
        assert.is_false(pcall(function() return fp8.tensor({1, 2, "x"}, on) end))
      end
      assert.equal(before, in_use(device))
    end)
  end)

  describe("Views", function()
    it("keep their memory alive, and what is in it", function()
      local view
      do
        local x = fp8.arange(100000, on)
        view = x:view(100, 1000):select(1, 3):narrow(1, 10, 5)
      end
      collectgarbage()
      collectgarbage()
      local others = {}
      for i = 1, 20 do others[i] = fp8.zeros(100000, on) end
      assert.equal(20, #others)
      assert.same({2009, 2010, 2011, 2012, 2013}, view:totable())
    end)

    it("of a tensor's data keep working until the tensor goes", function()
      if device ~= "cpu" then return end
      local x = fp8.zeros(3)
      x:data()[1] = 5
      assert.same({0, 5, 0}, x:totable())
    end)
  end)

  describe("Running out of memory", function()
    it("is an error that says what was asked for, in use and cached", function()
      local x = fp8.arange(3, on)
      for _, size in ipairs {2 ^ 40, 2 ^ 44, 2 ^ 50} do
        fails("out of memory on " .. (device == "cpu" and "cpu" or "cuda:0"), fp8.empty, size, on)
      end
      fails("4.0 TiB asked for", fp8.empty, 2 ^ 40, on)
      fails(" in use", fp8.empty, 2 ^ 40, on)
      fails(" cached", fp8.empty, 2 ^ 40, on)
      assert.same({0, 1, 2}, x:totable())
      assert.same({0, 2, 4}, (x + x):totable())
    end)

    it("collects first, and outlives an error of another finalizer", function()
      collectgarbage "stop"
      local finalized = false
      getmetatable(newproxy(true)).__gc = function()
        finalized = true
        error "on purpose"
      end
      fails("out of memory", fp8.empty, 2 ^ 40, on)
      collectgarbage "restart"
      assert.is_true(finalized)
    end)

    it("inside an operation leaves everything as it was", function()
      local x = fp8.zeros(1, on)
      local before = in_use(device)
      fails("out of memory", function() return x:expand(2 ^ 40):contiguous() end)
      fails("out of memory", function() return x:expand(2 ^ 40) + 1 end)
      fails("out of memory", function() return fp8.cat({x:expand(2 ^ 40), x:expand(2 ^ 40)}, 1) end)
      local column = x:view(1, 1):expand(2 ^ 20, 1)
      fails("out of memory", function() return column:matmul(column:t()) end)
      assert.equal(before, in_use(device))
      assert.same({0}, x:totable())
    end)
  end)
end)

describe("The collector", function()
  it("keeps garbage to a fraction of what is needed, where it takes little of the time", function()
    local program = [[
      local fp8 = require "fp8"
      local kept = {}
      for i = 1, 32 do kept[i] = fp8.empty(8 * 2 ^ 20) end -- 1 GiB, which nobody writes
      local x = fp8.zeros(2 ^ 20)
      for i = 1, 600 do x = x:sin() end -- 2.3 GiB, in about a second
      assert(kept[32])
      print(fp8.memory "cpu".peak / 2 ^ 20)
    ]]
    local ok, output = support.run_lua(program, "OMP_NUM_THREADS=1")
    assert.is_true(ok, output)
    assert.is_true(tonumber(output) < 1800, output .. " MiB") -- twice as much as is needed would be 2,056
  end)
end)

describe("Closing the state", function()
  it("frees everything: nothing is left for the process to lose", function()
    local ok, output = support.run_lua [[
      local fp8 = require "fp8"
      local kept = {}
      for i = 1, 100 do kept[i] = fp8.zeros(1000, {requires_grad = true}) * 2 end
      kept.layer = fp8.LinearMixed(30, 20)
      kept.layer(fp8.zeros(2, 30)):sum():backward()
      cycle = {kept, fp8.zeros(10)}
      cycle.self = cycle
      fp8.tensor({1}, {requires_grad = true}).grad = fp8.tensor {1}
      fp8.scope(function()
        kept.inside = fp8.zeros(10)
        print "done"
        os.exit(true, true) -- the scope never ends
      end)
    ]]
    assert.is_true(ok, output)
    assert.equal("done\n", output)
  end)

  it("leaves the counter at 0", function()
    local ok, output = support.run_lua [[
      -- Made before fp8 is loaded, so finalized after every tensor.
      local last = newproxy(true)
      local core
      getmetatable(last).__gc = function() print(core.memory("cpu").in_use) end
      core = require "fp8.core"
      local fp8 = require "fp8"
      keep = {last, fp8.randn(100, 100)}
      local layer = fp8.LinearGlobal(100, 100)
      layer(keep[2]):sum():backward()
      keep.grad = layer.weight.grad
      assert(core.memory("cpu").in_use > 0)
    ]]
    assert.is_true(ok, output)
    assert.equal("0\n", output)
  end)

  it("ends well after an error, too", function()
    local ok, output = support.run_lua [[
      local fp8 = require "fp8"
      local x = fp8.randn(10, 10, {requires_grad = true})
      local y = fp8.scope(function() return x:matmul(fp8.zeros(3, 3)) end)
    ]]
    assert.is_false(ok)
    assert.is_truthy(output:find("matmul: shapes (10, 10) and (3, 3)", 1, true), output)
  end)
end)

-- Finalizers run inside operations, wherever memory is allocated, and are any Lua code: what the interrupted call works
-- with stays. Each script runs in a process of its own, which must not crash.
local support = require "spec.support"

local function survives(code)
  local limit = ("local leave = dofile %q\n"):format(support.path "spec/fixtures/address_space.lua")
  local ok, output = support.run_lua(limit .. code)
  assert.is_true(ok, output)
  assert.equal("done\n", output)
end

describe("A finalizer that interrupts an operation", function()
  it("can't take tensors away by emptying the list that is read", function()
    if not support.can_limit_memory then return end
    for _, join in ipairs {"core.cat(list, 1)", "core.stack(list, 1):view(-1)"} do
      survives([[
        local core = require "fp8.core"
        local fp8 = require "fp8"
        fp8.cat({fp8.zeros(2 ^ 20), fp8.zeros(2 ^ 20)}, 1)
        leave(2 ^ 28)
        local hits = 0
        for round = 1, 6 do
          collectgarbage()
          collectgarbage()
          collectgarbage "stop"
          local list = {}
          for i = 1, 8 do list[i] = fp8.full({2 ^ 20}, i) end
          getmetatable(newproxy(true)).__gc = function()
            for i = 1, 8 do list[i] = nil end
            collectgarbage()
            collectgarbage()
            for i = 1, 8 do local _ = fp8.full({2 ^ 20}, -1) end
            hits = hits + 1
          end
          local ok, y
          repeat ok, y = pcall(function() return ]] .. join .. [[ end) until not ok or hits >= round
          for i = 1, ok and 8 or 0 do assert(y:narrow(1, i * 2 ^ 20, 1):item() == i, "wrong result") end
          collectgarbage "restart"
        end
        print "done"
      ]])
    end
  end)

  it("can't free operands after an error, or where it is interrupted itself", function()
    survives [[
      local core = require "fp8.core"
      local fp8 = require "fp8"
      collectgarbage("setpause", 0)
      collectgarbage("setstepmul", 1000000)
      for round = 1, 200 do
        local x = fp8.full({1000}, 3)
        getmetatable(newproxy(true)).__gc = function()
          pcall(core.add, x, "no number")
          getmetatable(newproxy(true)).__gc = function() core.free(x) end
          core.free(x)
          for i = 1, 20 do local _ = fp8.full({1000}, -1) end
        end
        local ok, y = pcall(core.add, x, 1)
        for _, element in ipairs(ok and y:totable() or {}) do assert(element == 4, element) end
      end
      print "done"
    ]]
  end)

  it("can't free what a scope holds and the operation reads", function()
    survives [[
      local core = require "fp8.core"
      local fp8 = require "fp8"
      collectgarbage("setpause", 0)
      collectgarbage("setstepmul", 1000000)
      for round = 1, 200 do
        core.scope_begin()
        local x, open = fp8.full({1000}, 3), true
        getmetatable(newproxy(true)).__gc = function()
          if open then
            open = false
            core.scope_end {}
          end
          for i = 1, 20 do local _ = fp8.full({1000}, -1) end
        end
        local ok, y = pcall(core.add, x, 1)
        local kept = {y}
        if open then
          open = false
          core.scope_end(kept)
        end
        local read, elements = pcall(core.totable, y) -- y, too, is freed if the finalizer ran after the operation
        for _, element in ipairs(ok and read and elements or {}) do assert(element == 4, element) end
      end
      print "done"
    ]]
  end)

  it("may use a coroutine that is gone when the operation collects", function()
    survives [[
      local fp8 = require "fp8"
      collectgarbage("setpause", 0)
      collectgarbage("setstepmul", 1000000)
      for round = 1, 100 do
        getmetatable(newproxy(true)).__gc = function()
          local other = coroutine.create(function()
            local _ = fp8.zeros(10)
            coroutine.yield()
          end)
          coroutine.resume(other)
          other = nil
          collectgarbage()
          collectgarbage()
        end
        local y = fp8.ones(1000) + 1
        pcall(fp8.empty, 2 ^ 50)
      end
      print "done"
    ]]
  end)

  it("can't evict the map that is being quantized with", function()
    if not support.can_limit_memory then return end
    survives [[
      local fp8 = require "fp8"
      local function map(seed)
        local entries = {}
        for i = 1, 256 do entries[i] = (i - 128.5) / 128 * (1 + seed / 1000) end
        return fp8.tensor(entries)
      end
      local mine, maps, small, hits, pattern = map(0), {}, fp8.ones(64), 0, {}
      for i = 1, 80 do maps[i] = map(i) end
      for i = 1, 64 do pattern[i] = math.sin(i) end
      local row = fp8.tensor(pattern)
      local expected = fp8.quantize_blockwise(row, mine, 64):totable()
      local x = row:expand(2 ^ 19, 64):contiguous()
      leave(2 ^ 28)
      for round = 1, 6 do
        collectgarbage()
        collectgarbage()
        collectgarbage "stop"
        getmetatable(newproxy(true)).__gc = function()
          for k = 1, 80 do fp8.quantize_blockwise(small, maps[k], 64) end
          hits = hits + 1
        end
        local ok, codes
        repeat ok, codes = pcall(fp8.quantize_blockwise, x, mine, 64) until not ok or hits >= round
        assert(ok, codes)
        local found = codes:narrow(1, 2 ^ 18, 1):totable()[1]
        for i = 1, 64 do assert(found[i] == expected[i], "wrong codes") end
        codes = nil
        collectgarbage "restart"
      end
      print "done"
    ]]
  end)
end)

describe("The finalizer of a tensor", function()
  it("can't be called by scripts", function()
    local core = require "fp8.core"
    local fp8 = require "fp8"
    assert.equal("fp8.Tensor", getmetatable(fp8.zeros(1)))
    assert.is_nil(core.metatable)
    assert.equal("fp8.Quantizer", getmetatable(core.quantizer {format = "e4m3"}))
    assert.is_false(pcall(setmetatable, fp8.zeros(1), {}))
  end)
end)

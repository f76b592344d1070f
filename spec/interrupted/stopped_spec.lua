-- Ctrl-C in the middle of one call of fp8, as at the prompt: what makes new tensors stops and gives them up, what
-- changes a tensor in place is done first.
local fp8 = require "fp8"
local core = require "fp8.core"
local ffi = require "ffi"
local support = require "spec.support"

pcall(ffi.cdef, "int getpid(void);")

local tries = 200 -- to hit a call of some hundredths of a second

--- Calls f again and again, and presses Ctrl-C after so many seconds. Returns whether the interruption was the error of
-- a function that was stopped, which f catches and returns as pcall does; else it came after that.
local function interrupt(f, seconds)
  local function repeated()
    while true do
      local ok, message = f()
      if not ok then return message end
    end
  end
  jit.off(repeated, true) -- as what is typed at the prompt
  jit.off(f, true)
  os.execute(("(sleep %.3f; kill -INT %d) >/dev/null 2>&1 &"):format(seconds, ffi.C.getpid()))
  local reached, message = core.interruptible(repeated)
  assert.equal("interrupted", message)
  return reached
end

describe("A call that Ctrl-C comes into", function()
  local random = support.random(3)
  setup(function() core.watch_interrupts(true) end)
  teardown(function() core.watch_interrupts(false) end)

  local x = fp8.randn(4000000)
  local rows, q = x:view(2000, 2000), x:narrow(1, 1, 2 * 4096 * 64):view(1, 2, 4096, 64)

  local operations = {
    ["an elementwise function"] = function() return pcall(fp8.tan, x) end,
    ["arithmetic"] = function() return pcall(fp8.pow, x, x) end,
    ["random numbers"] = function() return pcall(fp8.randn, 8000000) end,
    ["a sort of a long row"] = function() return pcall(fp8.sort, x) end,
    ["a sort of rows"] = function() return pcall(fp8.sort, rows) end,
    ["attention"] = function() return pcall(fp8.attention, q, q, q) end,
  }
  for name, operation in support.sorted_pairs(operations) do
    it(("stops %s, of which nothing is left"):format(name), function()
      collectgarbage()
      collectgarbage()
      local before, sum = fp8.memory("cpu").in_use, x:sum():item()
      local stopped, count = false, 0
      while not stopped and count < tries do
        stopped, count = interrupt(operation, 0.02 * random()), count + 1
      end
      assert.is_true(stopped)
      collectgarbage()
      collectgarbage()
      assert.equal(before, fp8.memory("cpu").in_use)
      assert.equal(sum, x:sum():item())
      assert.is_true(operation())
    end)
  end

  it("is done first if it changes a tensor in place", function()
    local y, steps = fp8.zeros(8000000), 0
    for _ = 1, 20 do
      assert.is_false(interrupt(function()
        y:add_(1)
        steps = steps + 1
        return true
      end, 0.05 * random()))
      local low, high = y:min():item(), y:max():item()
      assert.equal(low, high)
      assert.is_true(low == steps or low == steps + 1)
      steps = low
    end
  end)

  if fp8.cuda.is_available() then
    local g, target = fp8.randn(8192, 8192, {device = "cuda"}), fp8.zeros(8192, 8192)
    local expected = g:matmul(g):sum():item()
    local waits = {
      ["for the device"] = function() return pcall(fp8.cuda.synchronize) end,
      ["for a number"] = function(y) return pcall(y.item, y[1][1]) end,
      ["for an event"] = function() return pcall(function()
        local event = fp8.event("cuda"):record()
        return event:elapsed(event)
      end) end,
      ["for what is copied"] = function(y) return pcall(target.copy_, target, y) end,
    }
    for name, wait in support.sorted_pairs(waits) do
      it("waits no longer " .. name, function()
        local stopped, count, took = false, 0, nil
        while not stopped and count < 10 do
          stopped, count = interrupt(function()
            local y
            for _ = 1, 40 do y = g:matmul(g) end
            return wait(y)
          end, 0.2), count + 1
          local start = fp8.event("cpu"):record()
          fp8.cuda.synchronize()
          took = start:elapsed(fp8.event("cpu"):record())
        end
        assert.is_true(stopped)
        assert.is_true(took > 10, "the device had nothing to do any more")
        assert.equal(0, target:max():item())
        assert.equal(expected, g:matmul(g):sum():item())
      end)
    end
  end

  it("is right if it is long enough to be done in parts", function()
    local a, b, v = fp8.randn(4096, 16384), fp8.randn(16384, 2048), fp8.randn(2048, 1)
    for _, left in ipairs {a, a:view(2, 2048, 16384)} do
      local expected = left:matmul(b:matmul(v))
      assert.is_true(support.error(left:matmul(b):matmul(v), expected) < 1e-4)
    end
  end)
end)

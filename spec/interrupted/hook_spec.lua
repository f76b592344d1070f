-- An error that a debug hook raises, which is how Ctrl-C reaches a script, may come at any instruction. Whatever then
-- changes a state has changed it as a whole or not at all, recording and scopes are as they were, and the same call
-- works. FP8_HOOK_STRIDE=1 tries all instructions instead of every twenty-third.
local fp8 = require "fp8"
local state_changes = require "spec.support.state_changes"
local support = require "spec.support"

local stride = tonumber(os.getenv "FP8_HOOK_STRIDE") or 23

local _ = {fp8.nn, fp8.optim, fp8.data, fp8.LinearMixed, fp8.convert, fp8.watch, fp8.save, fp8.checkpoint, fp8.analyze}

--- Calls f with a hook that raises an error at instruction `count`. Returns whether it was raised.
local function strike(count, f)
  local struck = false
  local function hook()
    count = count - 1
    if count > 0 then return end
    debug.sethook()
    struck = true
    error("struck", 0)
  end
  local ok, message = pcall(function()
    debug.sethook(hook, "", 1)
    f()
    debug.sethook()
  end)
  debug.sethook()
  assert(ok or struck and tostring(message):find "struck", message)
  return struck
end

support.each_device(function(device)
  local on = {device = device}

  local directory = support.temporary_directory(setup, teardown)

  describe("An error of a debug hook", function()
    local total = 0

    setup(function()
      jit.off()
      fp8.set_deterministic(true) -- what is called again has the same bits
    end)
    teardown(function()
      jit.on()
      fp8.set_deterministic(false)
    end)

    for name, make in support.sorted_pairs(state_changes.actions(device, directory)) do
      it(("in %s leaves all whole"):format(name), function()
        local before, after, again = state_changes.expected(make)
        local count, struck, lost = 1, true, nil
        while struck do
          local call, observe, roots, kind = make()
          fp8.scope(function()
            lost = fp8.zeros(1, on)
            struck = strike(count, call)
            return roots
          end)
          support.fails("freed", function() return lost + 1 end)
          state_changes.check_recording(device)
          local state = state_changes.text_of(observe())
          if kind ~= "steps" and not before[state] and state ~= after then
            error(("neither before nor after, from instruction %d on"):format(count))
          end
          local ok, message = pcall(call)
          assert(ok, ("again after instruction %d: %s"):format(count, tostring(message)))
          state = state_changes.text_of(observe())
          if state ~= after and state ~= again then error(("called again after instruction %d"):format(count)) end
          state_changes.check_recording(device)
          count, total = count + stride, total + 1
        end
        if os.getenv "FP8_HOOK_COUNT" then print(name, count) end
      end)
    end
  end)
end)

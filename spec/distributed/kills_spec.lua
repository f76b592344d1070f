-- Training on two ranks that is killed with SIGKILL at random moments, one rank or both, ends everywhere, and goes on
-- from a whole checkpoint with any number of ranks (spec/fixtures/distributed/training.lua). FP8_KILLS sets how often.
local fp8 = require "fp8"
local ranks = require "spec.support.ranks"
local support = require "spec.support"

local kills = tonumber(os.getenv "FP8_KILLS") or 2
local victims = {"1", "0 1", "0"} -- by turns

-- Has the ranks whose process ids will be in files of a directory killed some seconds after all have come.
local function kill_later(directory, victim, seconds)
  local files = victim:gsub("%d", directory .. "/%0")
  os.execute(([[(
    for i in $(seq 3000); do [ -s %s/0 ] && [ -s %s/1 ] && break; sleep 0.01; done
    sleep %.3f; kill -9 $(cat %s)) > /dev/null 2>&1 &]]):format(directory, directory, seconds, files))
end

-- Processes that are still there, of those in a directory.
local function left_behind(directory)
  return ranks.output_of(("for p in $(cat %s/*); do [ -e /proc/$p ] && cat /proc/$p/cmdline; done"):format(directory))
end

-- Goes on from a copy of a checkpoint, if there is one; returns the weights after as many steps.
local function go_on(launcher, count, checkpoint, steps)
  local copy, path = os.tmpname(), os.tmpname()
  os.remove(copy)
  os.execute(("cp %s %s 2> /dev/null"):format(checkpoint, copy))
  local output, status = ranks.run("training.lua", {launcher = launcher, count = count, environment = {
    STEPS = tostring(steps), SHARD = "1", CHECKPOINT = copy, OUT = path,
  }})
  assert.equal("", output)
  assert.equal(0, status)
  local state = fp8.load(path)
  os.remove(copy)
  os.remove(path)
  return state
end

describe("Training on two ranks", function()
  local launcher, reason = ranks.launcher()
  if not launcher then
    it("needs several processes", function() pending(reason) end)
    return
  end
  local random = support.random(17)

  it(("that is killed %d times ends everywhere and goes on with other numbers of ranks"):format(kills), function()
    local reached = 0
    for i = 1, kills do
      local directory, victim = ranks.output_of("mktemp -d"):match "%S+", victims[(i - 1) % #victims + 1]
      local checkpoint = directory .. ".safetensors"
      kill_later(directory, victim, random() * (kills > 2 and 1.5 or 0.5))
      local _, status = ranks.run("training.lua", {launcher = launcher, count = 2, environment = {
        STEPS = "1000000", SHARD = "1", CHECKPOINT = checkpoint, OUT = "/dev/null", PIDS = directory,
      }})
      assert.not_equal(0, status)
      assert.not_equal(124, status) -- that is the time limit's
      assert.equal("", left_behind(directory))

      local found = require "fp8.files.paths".is_file(checkpoint) and fp8.checkpoint.read(checkpoint)
      local step = found and found.step or 0
      assert.equal(0, step % 10)
      reached = reached + step
      local expected = go_on(launcher, 1, checkpoint, step + 20)
      for _, count in ipairs(launcher ~= "mpirun" and {2} or kills > 2 and {2, 3} or {i + 1}) do
        local state = go_on(launcher, count, checkpoint, step + 20)
        for name, tensor in pairs(expected) do
          local difference = (state[name]:float() - tensor:float()):norm():item()
          assert.is_true(difference <= 1e-5 * tensor:float():norm():item(), name)
        end
      end
      os.execute(("rm -rf %s %s*"):format(directory, checkpoint))
    end
    if kills > 2 then assert.is_true(reached > 0, "no run came as far as a checkpoint") end
  end)
end)

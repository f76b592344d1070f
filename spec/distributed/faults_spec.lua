-- What goes wrong on one rank is an error on all, within the timeout, and leaves no process behind:
-- spec/fixtures/distributed/fault.lua.
local ranks = require "spec.support.ranks"

-- Processes that run the script.
local function left_behind()
  local pipe = io.popen "ps -eo args | grep -c '^luajit .*[d]istributed/fault.lua'"
  local count = tonumber(pipe:read "*a")
  pipe:close()
  return count
end

describe("a fault of rank 1", function()
  ranks.each_count(function(launcher, count)
    local started = {}
    local function start(fault, timeout)
      local run = ranks.start("fault.lua", {
        launcher = launcher, count = count, environment = {FAULT = fault, TIMEOUT = timeout},
      })
      started[#started + 1] = run
      return run
    end
    -- They mostly wait, and do so together.
    local ended, killed = start("error", "60"), start("kill", "60")
    local late = launcher == "mpirun" and count < 4 and start("late", "3")
    local shape = start "shape"
    local message, several, survives
    if count == 2 then message, several, survives = start "message", start "several", start "survives" end

    -- Each of these ranks has an error with this text, at a line of the script.
    local function check_errors(output, first, last, text)
      for rank = first, last do
        local error_text = ("fault.lua:%%d+: [%%w_]+: rank %d of %d: [^\n]*"):format(rank, count)
        local found = output:match(error_text)
        assert.is_truthy(found, ("rank %d has no error in: %s"):format(rank, output))
        assert.is_truthy(found:find(text), found)
      end
    end

    it("is an error that says who differs in what", function()
      local output, status = shape()
      check_errors(output, 0, count - 1,
        "rank 0 calls all_reduce_%(sum, f32 %(3%) on %a+%), rank 1 calls all_reduce_%(sum, f32 %(4%) on")
      assert.not_equal(0, status)
    end)

    if count == 2 then
      it("in a message is one of both ranks", function()
        local output, status = message()
        check_errors(output, 0, 1, "ranks differ: here it is a message.*, on rank %d a message")
        assert.not_equal(0, status)
      end)

      it("says so of the shape, the dtype, the reduction and the call, one after the other", function()
        local output, status = several()
        for _, text in ipairs {
          "rank 1 calls all_reduce_%(sum, f32 %(4%)", "rank 1 calls all_reduce_%(sum, f16 %(3%)",
          "rank 1 calls all_reduce_%(max, f32", "rank 1 calls broadcast_%(from 0, f32",
        } do
          for rank = 0, 1 do
            local found = output:find(("fault.lua:%%d+: [%%w_]+: rank %d of 2: [^\n]*"):format(rank) .. text)
            assert.is_truthy(found, output)
          end
        end
        assert.equal(0, status)
      end)

      it("that a script catches is none of later calls", function()
        local output, status = survives()
        assert.equal(0, status, output)
      end)
    end

    it("that ends it is one of the others at once", function()
      local output, status = ended()
      assert.is_truthy(output:find("a bug of rank 1", 1, true), output)
      check_errors(output, 0, 0, "rank 1 has ended")
      for rank = 2, count - 1 do check_errors(output, rank, rank, "rank 1 has ended") end
      assert.not_equal(0, status)
    end)

    it("that kills it is one of the others at once", function()
      local output, status = killed()
      check_errors(output, 0, 0, launcher == "mpirun" and "told to end" or "rank 1 has died")
      assert.not_equal(0, status)
    end)

    if late then
      it("that keeps it from coming is one of the others after the timeout, and ends it", function()
        local output, status = late()
        check_errors(output, 0, 0, "rank 1 has not called this within 3 s")
        for rank = 2, count - 1 do check_errors(output, rank, rank, "rank 1 has not called this within 3 s") end
        assert.is_nil(output:find "rank 1 has got to its end")
        assert.not_equal(0, status)
      end)
    end

    it("leaves no process behind", function()
      for _, finish in ipairs(started) do finish() end
      assert.equal(0, left_behind())
    end)
  end)
end)

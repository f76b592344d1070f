-- Several Lua states in one program know nothing of each other, wherever they run and whenever they are closed.
-- Algorithms for products are not timed here: which of them is the fastest may change from run to run, and with it the
-- last bits.
local support = require "spec.support"

local rounds = tonumber(os.getenv "FP8_STATES") or 5
local states = 4

local function run(command)
  local pipe = assert(io.popen(command .. " 2>&1; echo status $?"))
  local output = pipe:read "*a"
  pipe:close()
  local text, status = output:match "^(.*)status (%d+)%s*$"
  return status == "0", text
end

support.each_device(function(device)
  describe("Four states", function()
    local host, alone

    local function results(mode, count)
      local script = support.path "spec/fixtures/states.lua"
      local command = "FP8_TUNE=0 FP8_STATES_DEVICE=%s '%s' %s '%s' %d %d"
      local done, output = run(command:format(device, host, mode, script, states, count))
      assert.is_true(done, output)
      local list = {}
      for line in output:gmatch "[^\n]+" do list[#list + 1] = line end
      assert.equal(states * count, #list)
      return list
    end

    setup(function()
      host = os.tmpname()
      local luajit = "$(pkg-config --cflags --libs luajit 2>/dev/null || echo -I/usr/include/luajit-2.1 -lluajit-5.1)"
      support.compile(support.fixture "host.c", host, luajit .. " -lpthread -rdynamic")
      alone = results("alone", 2)
    end)

    teardown(function() os.remove(host) end)

    it("give different numbers, each the same every time, when they run one after the other", function()
      for i = 1, states do
        assert.not_equal(alone[i], alone[i % states + 1])
        assert.equal(alone[i], alone[i + states])
      end
    end)

    for _, mode in ipairs {"turns", "handed", "threads"} do
      it(("give the same numbers, mode %s of the program, %d times"):format(mode, rounds), function()
        for i, line in ipairs(results(mode, rounds)) do assert.equal(alone[(i - 1) % states + 1], line) end
      end)
    end
  end)
end)

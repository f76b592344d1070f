-- Processes that no mpirun has started find one another by TCP: spec/fixtures/distributed/meeting.lua.
local ranks = require "spec.support.ranks"

local function lines_of(text)
  local lines = {}
  for line in text:gmatch "[^\n]+" do table.insert(lines, line) end
  table.sort(lines)
  return lines
end

describe("ranks without MPI", function()
  if not ranks.has_library() then
    it("meet", function() pending "MPI is missing: fp8 was built without it" end)
    return
  end

  it("meet by a file, or at a port", function()
    local expected = {"rank 0 of 3, 0 here", "rank 1 of 3, 1 here", "rank 2 of 3, 2 here"}
    local output, status = ranks.run("meeting.lua", {launcher = "gpus", count = 3})
    assert.same(expected, lines_of(output))
    assert.equal(0, status)
    output, status = ranks.run("meeting.lua", {launcher = "port", count = 3, environment = {
      MASTER_ADDR = "127.0.0.1", MASTER_PORT = tostring(20000 + os.time() % 10000),
    }})
    assert.same(expected, lines_of(output))
    assert.equal(0, status)
  end)

  it("end where one of them was killed, whatever they wait for", function()
    local start = os.time()
    local output, status = ranks.run("meeting.lua", {launcher = "gpus", count = 3, environment = {FAULT = "1"}})
    for _, rank in ipairs {0, 2} do
      local text = ("rank %d of 3: rank 1 has ended, and nothing else goes on here"):format(rank)
      assert.is_truthy(output:find(text, 1, true), output)
    end
    assert.not_equal(0, status)
    assert.is_true(os.time() - start < 20)
  end)

  it("say what is missing", function()
    local output, status = ranks.run("meeting.lua", {launcher = "port", count = 2})
    assert.is_truthy(output:find("init: neither MASTER_PORT nor FP8_RENDEZVOUS says where rank 0 is", 1, true), output)
    assert.not_equal(0, status)
  end)
end)

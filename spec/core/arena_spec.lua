-- The ranges that a graph's memory is cut into: a program of its own tries them, since only graphs use them.
local seed = require "spec.support.seed"
local support = require "spec.support"

describe("Ranges of an arena", function()
  local folder = support.temporary_directory(setup, teardown)

  it("never overlap, and become whole segments again", function()
    local program = folder .. "/arena"
    local flags = "-g -fsanitize=address,undefined -I'%s' '%s'"
    support.compile(support.fixture "arena.c", program,
      flags:format(support.path "src", support.path "src/core/capture/arena.c"))
    local pipe = io.popen(("%s %d 2>&1"):format(program, seed))
    local output = pipe:read "*a"
    pipe:close()
    assert.equal("done\n", output)
  end)
end)

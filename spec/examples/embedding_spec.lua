-- The C program of examples/embedding is built and run as its page says, and prints what that shows.
local support = require "spec.support"

describe("The program of examples/embedding", function()
  it("does what its page says", function()
    local page = support.read_file(support.path "examples/embedding/README.md")
    local build = page:match "\ncc %-O2 %-o embed embed%.c ([^\n]*)\n%./embed\n```"
    local printed = page:match "\nprints\n\n```\n(.-)```"
    local program = os.tmpname()
    finally(function() os.remove(program) end)
    -- Where pkg-config knows another place for LuaJIT, that counts.
    local flags = ("$(pkg-config --cflags --libs luajit 2>/dev/null || echo %s)"):format(build)
    support.compile(support.path "examples/embedding/embed.c", program, "-O2 -rdynamic " .. flags)
    local output = os.tmpname()
    finally(function() os.remove(output) end)
    local status = os.execute(("LUA_PATH='%s' LUA_CPATH='%s' '%s' >'%s' 2>&1"):format(package.path, package.cpath,
      program, output))
    assert.equal(printed, support.read_file(output))
    assert.is_true(status == 0 or status == true)
    os.remove(program)
    os.remove(output)
  end)
end)

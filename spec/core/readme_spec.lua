-- The scripts of README.md print what README.md says.
local support = require "spec.support"

describe("README.md", function()
  it("shows the real output of its scripts", function()
    local file = assert(io.open "README.md")
    local text = file:read "*a"
    file:close()
    local count = 0
    for script, printed in text:gmatch "```lua\n([^`]-)```\n\nprints\n\n```\n(.-)```" do
      local lines = {}
      local environment = setmetatable({print = function(...) table.insert(lines, tostring((...))) end}, {__index = _G})
      setfenv(assert(loadstring(script, "=README.md")), environment)()
      assert.equal(printed, table.concat(lines, "\n") .. "\n")
      count = count + 1
    end
    assert.equal(2, count)
  end)

  it("shows what the prompt answers", function()
    local session = support.read_file "README.md":match "```\n(fp8> .-\n)```"
    local typed, shown = {}, {}
    for line in session:gmatch "[^\n]+" do
      local input = line:match "^fp8> (.*)" or line:match "^%.%.%.> (.*)"
      table.insert(input and typed or shown, input or line)
    end
    local input = os.tmpname()
    support.write_file(input, table.concat(typed, "\n") .. "\n")
    local ok, text = support.run(([[-e 'require "fp8.repl.command" {}' < '%s']]):format(input))
    os.remove(input)
    assert.is_true(ok, text)
    assert.equal(table.concat(shown, "\n") .. "\n", text)
    assert.is_true(#shown > 5)
  end)

  it("shows examples/first.lua as it is, and that is short", function()
    local readme, example = support.read_file "README.md", support.read_file "examples/first.lua"
    assert.is_truthy(readme:find("```lua\n" .. example .. "```", 1, true))
    assert.is_true(select(2, example:gsub("\n", "\n")) <= 45)
  end)

  it("names the rockspec, whose version is the module's", function()
    local version = require("fp8").version
    local name = ("fp8-%s-1.rockspec"):format(version)
    assert.is_truthy(support.read_file(name):find(('version = "%s-1"'):format(version), 1, true))
    assert.is_truthy(support.read_file "README.md":find(name, 1, true))
  end)
end)

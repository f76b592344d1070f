-- The first script of README.md prints what README.md says.
describe("README.md", function()
  it("shows the first script's real output", function()
    local file = assert(io.open "README.md")
    local text = file:read "*a"
    file:close()
    local script, printed = text:match "```lua\n(.-)```\n\nprints\n\n```\n(.-)```"
    local lines = {}
    local environment = setmetatable({print = function(...) table.insert(lines, tostring((...))) end}, {__index = _G})
    setfenv(assert(loadstring(script, "=README.md")), environment)()
    assert.equal(printed, table.concat(lines, "\n") .. "\n")
  end)
end)

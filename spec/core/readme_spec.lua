-- The scripts of README.md print what README.md says.
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
end)

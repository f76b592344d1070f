-- The reference: LDoc's input has every public name once, and what LDoc makes of it has no warning and no dead link.
local names = require "fp8.help.names"
local support = require "spec.support"

local has_ldoc = os.execute "command -v ldoc >/dev/null 2>&1" == 0

local directory = support.temporary_directory(setup, teardown)

local function lines_of(command)
  local list, pipe = {}, io.popen(command)
  for line in pipe:lines() do table.insert(list, line) end
  pipe:close()
  return list
end

describe("The reference", function()
  setup(function()
    os.execute(("mkdir '%s/topics'"):format(directory))
    assert.equal(#names.all(), require "fp8.help.reference"(directory))
  end)

  it("has every public name once", function()
    local found = {}
    for _, path in ipairs(lines_of(("ls '%s'/*.lua"):format(directory))) do
      for name in support.read_file(path):gmatch "\n%-%- @%l+ (%S+[.:]%S+)" do found[name] = (found[name] or 0) + 1 end
    end
    for _, entry in ipairs(names.all()) do assert.equal(1, found[entry.name], entry.name) end
  end)

  it("has a page for each topic", function()
    for name in pairs(require "fp8.help.topics") do
      local text = support.read_file(("%s/topics/%s.md"):format(directory, name))
      assert.is_truthy(text:find "\nSee also: [%[`]", name)
    end
  end)

  if has_ldoc then
    it("is read by LDoc without a warning, and has no dead link", function()
      local report = directory .. "/report"
      local command = "cd '%s' && env -u LUA_PATH -u LUA_CPATH -u LD_PRELOAD ldoc --fatalwarnings . >'%s' 2>&1"
      local status = os.execute(command:format(directory, report))
      assert.equal(0, status, support.read_file(report))
      local pages = lines_of(("cd '%s/html' && find . -name '*.html'"):format(directory))
      assert.is_true(#pages > 20)
      for _, page in ipairs(pages) do
        local text, folder = support.read_file(directory .. "/html/" .. page), page:match "^(.*/)"
        for link in text:gmatch 'href="([^"]+)"' do
          if link:find "^#" then
            assert.is_truthy(text:find(('name = "%s"'):format(link:sub(2)), 1, true) or
              text:find(('name="%s"'):format(link:sub(2)), 1, true), page .. link)
          elseif not link:find "^%l+:" then
            local path = ("%s/html/%s%s"):format(directory, folder, link:gsub("#.*", ""))
            assert.is_truthy(io.open(path), page .. ": " .. link)
          end
        end
      end
    end)
  end
end)

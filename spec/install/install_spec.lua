-- What make install and make uninstall do, by the script that they call, and what other Lua is told.
local support = require "spec.support"

local core = package.searchpath("fp8.core", package.cpath)

local function lines_of(command)
  local pipe = io.popen(command .. " 2>&1")
  local text = pipe:read "*a"
  pipe:close()
  return text
end

local function exists(path)
  local file = io.open(path)
  if file then file:close() end
  return file ~= nil
end

describe("make install", function()
  local directory = support.temporary_directory(before_each, after_each)

  local function run(action, prefix, libraries)
    local places = ("LUADIR='%s/share/lua/5.1' LIBDIR='%s/lib/lua/5.1' BINDIR='%s/bin'"):format(prefix, prefix, prefix)
    return lines_of(("cd '%s' && DESTDIR='%s' %s .ci/install %s %s"):format(support.path "" == "" and "." or
      support.path "", directory, places, action, libraries or ""))
  end

  -- The sanitizers' runtime would have to be in other programs, too.
  local clean = "env -u LD_PRELOAD -u LUA_PATH -u LUA_CPATH "
  local listing = ("cd '%s' && find . | sort"):format(directory)

  it("gives a module and a command that work from any folder, and uninstall leaves nothing", function()
    os.execute(("mkdir -p '%s/opt/empty'"):format(directory))
    local before = lines_of(listing)
    assert.equal("", run("install", "/opt/fp8", core))
    local prefix = directory .. "/opt/fp8"
    assert.is_true(exists(prefix .. "/share/lua/5.1/fp8/files/npy.lua"))
    assert.is_true(exists(prefix .. "/share/lua/5.1/fp8/annotations/fp8.lua"))
    assert.is_true(exists(prefix .. "/lib/lua/5.1/fp8/core.so"))
    if support.can_limit_memory then
      -- Moved, as LuaRocks moves it: the files are found beside the command.
      assert.equal("fp8 0.1.0\n", lines_of(("cd / && %s '%s/bin/fp8' -v"):format(clean, prefix)))
      local code = ("cd / && %s '%s/bin/fp8' -e 'print(fp8.ones(2):sum():item())'"):format(clean, prefix)
      assert.equal("2\n", lines_of(code))
    end
    assert.equal("", run("uninstall", "/opt/fp8"))
    assert.equal(before, lines_of(listing))
  end)

  it("replaces what an earlier one has installed, a library that was not built again included", function()
    assert.equal("", run("install", "/usr", core))
    local place = directory .. "/usr/"
    support.write_file(place .. "lib/lua/5.1/fp8/cuda.so", "of an earlier version")
    support.write_file(place .. "share/lua/5.1/fp8/old.lua", "")
    support.write_file(place .. "share/lua/5.1/other.lua", "")
    assert.equal("", run("install", "/usr", core))
    assert.is_false(exists(place .. "lib/lua/5.1/fp8/cuda.so"))
    assert.is_false(exists(place .. "share/lua/5.1/fp8/old.lua"))
    assert.equal("", run("uninstall", "/usr"))
    assert.equal(".\n./usr\n./usr/share\n./usr/share/lua\n./usr/share/lua/5.1\n./usr/share/lua/5.1/other.lua\n",
      lines_of(listing))
    assert.equal("", run("uninstall", "/usr"))
  end)
end)

describe("Without LuaJIT", function()
  it("fp8 says that it needs it", function()
    local path = ("LUA_PATH='%s'"):format(package.path)
    local tried = 0
    for _, lua in ipairs {"lua5.1", "lua5.2", "lua5.3", "lua5.4"} do
      if lines_of("command -v " .. lua) ~= "" then
        local text = lines_of(("env -u LD_PRELOAD %s %s -e 'require \"fp8\"'"):format(path, lua))
        assert.is_truthy(text:find("fp8 needs LuaJIT", 1, true), text)
        tried = tried + 1
      end
    end
    if tried == 0 then pending "there is no other Lua" end
  end)
end)

describe("fp8.info", function()
  it("names versions, places and what is missing", function()
    local text = require("fp8").info()
    for _, part in ipairs {"fp8 0.1.0 in ", "LuaJIT ", "processor ", "GPUs ", "libraries ", core, "lua-cjson"} do
      assert.is_truthy(text:find(part, 1, true), text)
    end
    local ok, bare = support.run([[-e 'package.path, package.cpath = package.path:match "^(.-);;*/usr" or package.path,
      package.cpath:match "^(.-);;*/usr" or package.cpath print(require("fp8").info())']],
      [[PATH="$(dirname "$(command -v luajit)"):/usr/bin:/bin"]])
    assert.is_true(ok, bare)
  end)

  it("is told of packages that are missing where they are needed", function()
    local ok, text = support.run_lua [[
      local fp8 = require "fp8"
      package.preload.cjson = function() error "module 'cjson' not found" end
      package.preload.zlib = package.preload.cjson
      print(pcall(function() fp8.save("x", {}) end))
      print(pcall(function() fp8.data.read_idx "x" end))
    ]]
    assert.is_true(ok, text)
    assert.is_truthy(text:find("needs lua-cjson, which LuaJIT does not find: apt-get install lua-cjson", 1, true), text)
    assert.is_truthy(text:find("needs lua-zlib", 1, true), text)
  end)
end)

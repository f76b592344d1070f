--- Lua modules of other packages, each named with its package where it is missing.
local core = require "fp8.core"

local packages = {cjson = "lua-cjson", zlib = "lua-zlib"} -- Debian and LuaRocks call them the same

--- What require(name) gives.
return function(name)
  local found, module = pcall(require, name)
  if found then return module end
  if tostring(module):find("not enough memory", 1, true) then error(module, 0) end
  core.raise(("this needs %s, which LuaJIT does not find: apt-get install %s, or luarocks install %s"):format(
    packages[name], packages[name], packages[name]))
end

--- Parts of fp8 that are loaded when they are first used, so that `require "fp8"` stays quick.
local core = require "fp8.core"

local now = {loading = false}

-- What was interrupted while it was loaded is begun anew: `require` would refuse it for good.
local function load(name)
  local loaded = package.loaded
  for other, value in next, loaded do
    if type(value) == "userdata" and other:find "^fp8%." then loaded[other] = nil end
  end
  return require(name)
end

--- What require(name) gives.
return function(name)
  local value = package.loaded[name]
  if value ~= nil and type(value) ~= "userdata" then return value end
  if now.loading then return require(name) end
  return core.with(now, "loading", true, load, name)
end

--- What can be called, as a function: itself, or for a module one that calls it. Anything else is an error.
local core = require "fp8.core"

--- @param name of the function to name in errors
return function(name, f)
  if type(f) == "function" then return f end
  local metatable = (type(f) == "table" or type(f) == "userdata") and getmetatable(f)
  if type(metatable) == "table" and type(metatable.__call) == "function" then
    return function(...) return f(...) end
  end
  core.raise(("%s: a function is needed, got %s"):format(name, type(f)))
end

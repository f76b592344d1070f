--- Tables of options.
local core = require "fp8.core"

--- The options, or an empty table for nil; an error unless they are a table whose fields are all keys of `known`.
-- @param name of the function to name in errors
local function check_options(name, options, known)
  if options == nil then return {} end
  if type(options) ~= "table" then core.raise(("%s: options must be a table, got %s"):format(name, type(options))) end
  for option in next, options do
    if known[option] == nil then core.raise(("%s: unknown option %s"):format(name, tostring(option))) end
  end
  return options
end

jit.off(check_options) -- nn/module.lua says why

return check_options

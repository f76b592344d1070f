--- Tables of options.
local computable = require "fp8.computable"
local core = require "fp8.core"
local later = require "fp8.later"

local function check_value(name, option, value, kind)
  if kind == "dtype" then
    if computable[value] then return end
    local called = core.dtype_called(value)
    core.raise(("%s: option %s must be f32, f16 or bf16, got %s%s"):format(name, option, tostring(value),
      called and called ~= value and (", which is called %s here"):format(called) or ""))
  elseif kind == "device" then
    local ok, message = pcall(core.memory, value)
    if ok then return end
    local reason = message:gsub("^.-:%d+: [%w_]+: ", ""):gsub("^argument 1: ", "")
    core.raise(("%s: option %s: %s"):format(name, option, reason))
  elseif type(value) ~= kind then
    core.raise(("%s: option %s must be a %s, got %s"):format(name, option, kind, type(value)))
  end
end

--- The options, or an empty table for nil; an error unless they are a table whose fields are all keys of `known`, with
-- values of these types.
-- @param name  of the function to name in errors
-- @param known by option: the type of its value ("boolean", "number" or "string"), "dtype" for one that parameters can
--   have, "device", or true where the caller checks the value
local function check_options(name, options, known)
  if options == nil then return {} end
  if type(options) ~= "table" then core.raise(("%s: options must be a table, got %s"):format(name, type(options))) end
  for option, value in next, options do
    local kind = known[option]
    if kind == nil then
      core.raise(("%s: unknown option %s%s"):format(name, tostring(option), later("fp8.nearest").hint(option, known)))
    end
    if kind ~= true then check_value(name, option, value, kind) end
  end
  return options
end

jit.off(check_options) -- nn/module.lua says why

return check_options

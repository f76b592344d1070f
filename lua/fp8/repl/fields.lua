--- The names that can follow a value and a dot or a colon.
local core = require "fp8.core"

-- A table's metatable that says how fields are looked up, if it is one that can be read.
local function index_of(value)
  local metatable = debug.getmetatable(value)
  return type(metatable) == "table" and rawget(metatable, "__index") or nil
end

local function add_keys(names, container, wanted)
  for key, value in next, container do
    if type(key) == "string" and key:find "^[%a_][%w_]*$" and wanted(value) then names[key] = true end
  end
end

local function any() return true end
local function is_callable(value) return type(value) == "function" or type(value) == "table" end

local function add_fields(names, value, wanted)
  local deepest = 10
  while type(value) == "table" and deepest > 0 do
    add_keys(names, value, wanted)
    local metatable = debug.getmetatable(value)
    if type(metatable) == "table" and type(metatable.later) == "table" then add_keys(names, metatable.later, any) end
    value, deepest = index_of(value), deepest - 1
  end
end

--- A set of names.
-- @param separator ":" for what can be called as a method, or "."
return function(value, separator)
  local names = {}
  if core.is_tensor(value) then
    add_keys(names, require "fp8.tensor", any)
    if separator == "." then add_keys(names, debug.getmetatable(value).properties, any) end
  elseif type(value) == "table" then
    add_fields(names, value, separator == ":" and is_callable or any)
  elseif type(value) == "string" then
    add_keys(names, string, any)
  end
  return names
end

--- Tables of functions and classes, such as fp8.nn, whose misspelt fields are errors (near_miss.lua).
local later = require "fp8.later"
local public = require "fp8.public"

--- The same table, of which fields that are one slip away from another can't be read. Its text lists what is in it.
return function(label, fields)
  for name, value in next, fields do
    if type(value) == "function" then fields[name] = public.plain(name, value) end
  end
  return setmetatable(fields, {
    __index = function(_, name) return later "fp8.near_miss"(label, name, fields) end,
    __tostring = function() return later "fp8.help".contents(label .. ".") end,
  })
end

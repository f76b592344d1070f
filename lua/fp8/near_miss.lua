--- Libraries in which a misspelt field is an error and not nil: fp8.randm, fp8.nn.Linaer.
local later = require "fp8.later"
local raise = require("fp8.core").raise

local shortest = 5 -- letters: among shorter names too many are neighbours

local function digits(name) return (name:gsub("%D", "")) end

--- Raises an error if `name` is one slip away from a key of the tables. A script may still ask whether there is a field
-- (`if fp8.nn.Conv1d then`): all other names, those that differ in a digit, and those that begin with _ included, are
-- let through.
-- @param label of the library
local function near_miss(label, name, ...)
  local translated = later("fp8.nearest").translated(name, ...)
  if translated then raise(("%s.%s: it is called %s here"):format(label, name, translated)) end
  if type(name) ~= "string" or #name < shortest or name:sub(1, 1) == "_" then return end
  local found = later("fp8.nearest").name(name, 1, ...)
  if not found or digits(found) ~= digits(name) then return end
  raise(("%s.%s: there is no such field; did you mean %s.%s?"):format(label, name, label, found))
end

return near_miss

--- What is known of the fields of modules: in which order they were made, which a Lua table does not know (parts are
-- printed in it), and their names, by which misspelt ones are noticed.
local later = require "fp8.later"

local fields = {}

-- By module: {keys = list, known = set}. Keys, and not what is there: a module is kept alive by nothing here.
local orders = setmetatable({}, {__mode = "k"})

local kinds = {table = true, ["function"] = true} -- of values that may be parts

local names = {} -- of all fields that any module has had

local shortest = 5 -- letters of a name that may be misspelt

-- Not named: read often where there is none, such as the bias of a layer without one.
local right, count, most = {}, 0, 1000

--- What a field of a module is that it and its classes lack: nil, as a script may ask for one that is set later. But
-- where two neighbouring letters are swapped in a name that modules have, it is an error.
-- @param methods the base of all classes
function fields.missing(methods, key)
  if type(key) ~= "string" or #key < shortest or names[key] or right[key] then return nil end
  later "fp8.nn.fields.swapped"(key, names, methods)
  if count == most then right, count = {}, 0 end
  right[key], count = true, count + 1
  return nil
end

--- module[key] = value, of a field that is not there yet.
function fields.remember(module, key, value)
  rawset(module, key, value)
  if type(key) == "string" then names[key] = true end
  if not kinds[type(value)] then return end
  local order = orders[module]
  if not order then
    order = {keys = {}, known = {}}
    orders[module] = order
  end
  if order.known[key] then return end
  order.known[key] = true
  order.keys[#order.keys + 1] = key
end

--- The keys of a module that have tables or functions, in the order in which they came to be there; those that were set
-- in another way are not among them, and some may be gone.
function fields.keys(module)
  local order = orders[module]
  return order and order.keys or {}
end

return fields

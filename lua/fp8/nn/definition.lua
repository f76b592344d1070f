--- In which order the fields of modules were made, which a Lua table does not know: parts are printed in it.
local definition = {}

-- By module: {keys = list, known = set}. Keys, and not what is there: a module is kept alive by nothing here.
local orders = setmetatable({}, {__mode = "k"})

local kinds = {table = true, ["function"] = true} -- of values that may be parts

--- module[key] = value, of a field that is not there yet.
function definition.remember(module, key, value)
  rawset(module, key, value)
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
function definition.keys(module)
  local order = orders[module]
  return order and order.keys or {}
end

return definition

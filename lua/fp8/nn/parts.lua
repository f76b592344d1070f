--- What a module consists of: its tensors, and the modules in it.
local core = require "fp8.core"
local autograd = require "fp8.autograd"

local raise = core.raise

--- Whether a value is an object of a module class.
local function is_module(value)
  local class = type(value) == "table" and getmetatable(value)
  return type(class) == "table" and rawget(class, "class_name") ~= nil
end

local function is_plain_table(value) return type(value) == "table" and getmetatable(value) == nil end

-- Whether a value is a tensor or a module or may lead to some. Most values are not even of these types.
local function leads_on(value)
  local kind = type(value)
  if kind == "table" then return is_plain_table(value) or is_module(value) end
  return kind == "userdata" and core.is_tensor(value)
end

local given = "given_recipes" -- what fp8.convert has given to a module of any class: there are maps in it, no parts

-- The keys of a table that lead to tensors or modules, maybe by way of plain tables: numbers in order, then names in
-- order.
local function sorted_keys(container, unsearched)
  local keys = {}
  for key, value in next, container do
    local kind = type(key)
    local searched = kind == "number" or kind == "string" and not unsearched[key] and key ~= given
    if searched and leads_on(value) then
      keys[#keys + 1] = key
    end
  end
  table.sort(keys, function(a, b)
    if type(a) == type(b) then return a < b end
    return type(a) == "number"
  end)
  return keys
end

-- Loops over `next` that run often stay interpreted: LuaJIT 2.1.0-beta3 may cut an address in one to 32 bits.
jit.off(sorted_keys)

local nothing = {}

local function add_parts(list, container, prefix, seen)
  seen[container] = true
  for _, key in ipairs(sorted_keys(container, prefix == "" and container.unsearched or nothing)) do
    local value = rawget(container, key)
    if not is_plain_table(value) then
      list[#list + 1] = {name = prefix .. key, value = value, owner = container, field = key}
    elseif not seen[value] then
      add_parts(list, value, prefix .. key .. ".", seen)
    end
  end
  return list
end

--- The tensors and modules in a module, those in plain tables in its fields included, however deep: a list of {name =
-- "hidden" or "layers.1", value =, owner = the module or the plain table, field = its key there}, in an order that
-- depends on names only.
local function list_parts(module) return add_parts({}, module, "", {}) end

local function add_fields(list, loose, module, prefix, seen)
  seen[module] = true
  for _, part in ipairs(list_parts(module)) do
    local name, value = prefix .. part.name, part.value
    if is_module(value) then
      if not seen[value] then add_fields(list, loose, value, name .. ".", seen) end
    elseif part.owner == module then
      list[#list + 1] = {owner = module, field = part.field, name = name}
    else
      loose[#loose + 1] = {owner = part.owner, field = part.field, name = name}
    end
  end
end

--- All fields of a module and its parts that hold tensors, once for each module: a list of {owner = module, field = its
-- name there, name = full name}. Another such list has the places in plain tables where some of these tensors are, too.
-- An error where two have one name, and where a parameter is in a plain table only.
--
-- A list and no function that is called for each: LuaJIT compiles the first closures of a function with what they refer
-- to as constants, and its code would keep a whole state_dict alive.
local function list_tensors(module)
  local list, loose, again, taken, known = {}, {}, {}, {}, {}
  add_fields(list, loose, module, "", {})
  for _, entry in ipairs(list) do
    if taken[entry.name] then raise(("%s: two tensors are called %s"):format(module.class_name, entry.name)) end
    taken[entry.name], known[entry.owner[entry.field]] = true, true
  end
  for _, entry in ipairs(loose) do
    local tensor = entry.owner[entry.field]
    if known[tensor] then
      again[#again + 1] = entry
    elseif core.requires_grad(tensor) and autograd.is_leaf(tensor) then
      raise(("%s: %s requires a gradient but is in a plain table, where only modules are found: make it a field of " ..
        "a module"):format(module.class_name, entry.name))
    end
  end
  return list, again
end

return {is_module = is_module, list = list_parts, list_tensors = list_tensors}

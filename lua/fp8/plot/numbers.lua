--- The numbers that are to be drawn, of what the caller has: tensors or lists.
local core = require "fp8.core"
local list_length = require "fp8.list_length"

local numbers = {}

local function flat(values, list)
  for _, value in ipairs(values) do
    if type(value) == "table" then flat(value, list) else list[#list + 1] = tonumber(value) end
  end
  return list
end

--- A list of numbers: the elements of a tensor in row-major order, or a list as it is.
-- @param name of the function and its argument, for errors
function numbers.list(name, values)
  if core.is_tensor(values) then
    local all = core.totable(values)
    return type(all) == "table" and flat(all, {}) or {tonumber(all)}
  end
  if type(values) ~= "table" then
    core.raise(("%s: a tensor or a list of numbers is needed, got %s"):format(name, type(values)))
  end
  local list = {}
  for i = 1, list_length(name, values) do
    local value = core.is_tensor(values[i]) and core.item(values[i]) or values[i]
    list[i] = tonumber(value)
    if type(value) ~= "number" and type(value) ~= "cdata" then
      core.raise(("%s: element %d must be a number, got %s"):format(name, i, type(value)))
    end
  end
  return list
end

--- 1, 2, … count.
function numbers.positions(count)
  local list = {}
  for i = 1, count do list[i] = i end
  return list
end

--- The elements of a table by sorted names: calls visit(name, value).
function numbers.each_named(t, visit)
  local names = {}
  for name in next, t do names[#names + 1] = name end
  table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
  for _, name in ipairs(names) do visit(tostring(name), t[name]) end
end

return numbers

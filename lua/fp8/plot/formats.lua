--- Formats, as what fp8.plot draws of them: their values, divided by the largest.
local core = require "fp8.core"
local named = require "fp8.linear.formats"
local maps = require "fp8.printing.map"

local formats = {}

-- The finite values of a hardware type of so many exponent and fraction bits, those without a sign, ascending.
local function hardware_values(exponent_bits, fraction_bits, largest)
  local values, bias, fractions = {}, 2 ^ (exponent_bits - 1) - 1, 2 ^ fraction_bits
  for exponent = 0, 2 ^ exponent_bits - 1 do
    for fraction = 0, fractions - 1 do
      local value = exponent == 0 and fraction / fractions * 2 ^ (1 - bias)
        or (1 + fraction / fractions) * 2 ^ (exponent - bias)
      if value <= largest then values[#values + 1] = value end
    end
  end
  return values
end

local hardware = {
  e4m3 = {largest = 448, values = hardware_values(4, 3, 448)},
  e5m2 = {largest = 57344, values = hardware_values(5, 2, 57344)},
}

-- Both signs of the values of a hardware type, ascending.
local function signed(kind)
  local list = {}
  for i = #kind.values, 2, -1 do list[#list + 1] = -kind.values[i] / kind.largest end
  for _, value in ipairs(kind.values) do list[#list + 1] = value / kind.largest end
  return list
end

--- {name =, values = ascending, the largest of them 1} of a map or the name of one of fp8.formats.
function formats.read(name, format)
  if hardware[format] then return {name = format, values = signed(hardware[format])} end
  if named.is_hardware(format) == false then return {name = format, values = core.totable(named.map_of(format))} end
  if core.is_tensor(format) and core.rank(format) == 1 then
    local call = maps.is_map(format) and maps.source(format)
    return {name = call and call:gsub("^fp8%.create_", "") or "map", values = core.totable(format)}
  end
  core.raise(("%s: a format is a map or the name of one of fp8.formats, got %s"):format(name,
    type(format) == "string" and format or type(format)))
end

--- A list of formats, given as one, a list, or a table with names of their own.
function formats.list(name, given)
  if type(given) ~= "table" then given = {given} end
  local list = {}
  for _, format in ipairs(given) do list[#list + 1] = formats.read(name, format) end
  require "fp8.plot.numbers".each_named(given, function(own_name, format)
    if tonumber(own_name) then return end
    local entry = formats.read(name, format)
    entry.name = own_name
    list[#list + 1] = entry
  end)
  if #list == 0 then core.raise(name .. ": at least one format is needed") end
  return list
end

--- The smallest value above 0.
function formats.smallest(format)
  for _, value in ipairs(format.values) do
    if value > 0 then return value end
  end
end

--- The value of a format that is nearest to a number.
function formats.nearest(format, number)
  local values, low, high = format.values, 1, #format.values
  while high - low > 1 do
    local middle = math.floor((low + high) / 2)
    if values[middle] <= number then low = middle else high = middle end
  end
  return number - values[low] <= values[high] - number and values[low] or values[high]
end

return formats

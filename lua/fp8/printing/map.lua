--- Maps, as text: what made one, and which numbers it can hold.
local core = require "fp8.core"

local map = {}

local size = 256

--- Whether a tensor looks like a map of a format: 256 ascending f32 values, of which the largest is 1.
function map.is_map(x)
  if core.rank(x) ~= 1 or core.size(x, 1) ~= size or core.dtype(x) ~= "f32" then return false end
  local values = core.totable(x)
  if values[size] ~= 1 then return false end
  for i = 2, size do
    if not (values[i] >= values[i - 1]) then return false end
  end
  return true
end

local function same(a, b)
  for i = 1, size do
    if a[i] ~= b[i] then return false end
  end
  return true
end

-- Calls visit(text, make, …) for everything that may have made a map, until it returns something.
local function each_source(visit)
  for bits = 8, 2, -1 do
    for _, signed in ipairs {true, false} do
      local rest = bits - (signed and 1 or 0)
      for exponent = 1, rest do
        local found = visit("create_map", signed, exponent, rest - exponent, bits)
        if found then return found end
      end
      local found = visit("create_dynamic_map", signed, 7, bits) or visit("create_linear_map", signed, bits)
      if found then return found end
    end
  end
end

--- The call that makes this map, "fp8.create_map(true, 4, 3, 8)"; nil if none of the usual ones does.
function map.source(x)
  local values = core.totable(x)
  return each_source(function(name, ...)
    local made, other = pcall(core[name], ...)
    if not made or not same(core.totable(other), values) then return end
    local arguments = {...}
    for i, argument in ipairs(arguments) do arguments[i] = tostring(argument) end
    return ("fp8.%s(%s)"):format(name, table.concat(arguments, ", "))
  end)
end

--- Two lines on a map: what made it, how many values differ and their range; the smallest and the largest steps.
function map.summary(x)
  local values = core.totable(x)
  local different, smallest, largest, positive = 1, math.huge, 0, math.huge
  for i = 1, size do
    local step = i > 1 and values[i] - values[i - 1] or 0
    if step > 0 then different, smallest, largest = different + 1, math.min(smallest, step), math.max(largest, step) end
    if values[i] > 0 then positive = math.min(positive, values[i]) end
  end
  return ("  %s: %d values from %g to %g,\n  the smallest above 0 %.4g; steps from %.4g to %.4g"):format(
    map.source(x) or "a map", different, values[1], values[size], positive, smallest, largest)
end

return map

--- Numbers as text that gives the same number when it is read.
local core = require "fp8.core"
local ffi = require "ffi"
local number_text = require "fp8.number_text"

local number = {}

local single = ffi.new "float[1]"

-- What a double becomes in float32.
local function as_float(value)
  single[0] = value
  return single[0]
end

-- The fewest digits that give `value` back, by `read`.
local function shortest(value, read, most)
  for digits = 1, most - 1 do
    local text = ("%%.%dg"):format(digits):format(value)
    if read(tonumber(text)) == value then return text end
  end
  return ("%%.%dg"):format(most):format(value)
end

local function as_it_is(value) return value end

--- A Lua number: whole ones up to 2^53 in full, others with as few digits as give the same number back.
function number.text(value)
  if value ~= value or value == math.huge or value == -math.huge then return number_text("%g", value) end
  if value == math.floor(value) and math.abs(value) <= 2 ^ 53 then return ("%.0f"):format(value) end
  local text = ("%.14g"):format(value)
  return tonumber(text) == value and text or shortest(value, as_it_is, 17)
end

--- An element of a float tensor of up to 32 bits: as few digits as give the same float32 back.
function number.float_text(value)
  if value ~= value or value == math.huge or value == -math.huge then return number_text("%g", value) end
  if value == math.floor(value) and math.abs(value) < 1e15 then return ("%.0f"):format(value) end
  return shortest(value, as_float, 9)
end

--- An element, as `item` and `totable` give it, of a tensor of this dtype.
function number.of_dtype(value, dtype)
  if type(value) ~= "number" then return (tostring(value):gsub("LL$", "")) end
  return core.dtypes[dtype].kind == "integer" and number.text(value) or number.float_text(value)
end

--- The number that a tensor without dimensions holds.
function number.element(x) return number.of_dtype(core.item(x), core.dtype(x)) end

return number

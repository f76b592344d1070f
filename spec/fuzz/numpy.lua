--- What the fuzzer knows of NumPy's files.
local fp8 = require "fp8"

local numpy = {}

--- The messages with which an array may be refused.
numpy.kinds = [[
not a NumPy array: it must begin with \x93NUMPY
version … of the format is not known
the file ends within its header
a header of … bytes is too long
… bytes of elements are needed, the file has …
the header is no dictionary
structured arrays are not supported
the header has no … that is understood
the header has more than descr, fortran_order and shape
dtype … is not supported
fortran_order must be True or False, got …
the shape … is not understood
the shape … is too large
… dimensions; at most 8 are supported
]]

--- Reads a file under a name with this ending; double precision only if there is some, so that it is seen to be refused
-- without the option.
function numpy.read(path, ending)
  assert(os.rename(path, path .. ending))
  local ok, value = pcall(fp8.load, path .. ending)
  if not ok and value:find("the dtype is float64", 1, true) then return fp8.load(path .. ending, {f64 = "f32"}) end
  if not ok then error(value, 0) end
  return value
end

local words = {
  "<f4", "<f2", "|u1", "<i4", "<i8", "|b1", "<f8", ">f4", ">i8", "=f4", "<c8", "|O", "True", "False", "descr", "shape",
  "fortran_order", "(2,)", "(1, 2)", "()", "(0, 3)", "(2, 2, 2)", "{", "}", ",", "'",
}

local function changed(header, random)
  local way = random(4)
  if way == 1 then
    local start, stop = header:find("%d+", random(#header + 1))
    if not start then return header end
    local number = tonumber(header:sub(start, stop)) or 0
    return header:sub(1, start - 1) .. ("%.0f"):format(math.max(number + random(3) - 2, 0)) .. header:sub(stop + 1)
  elseif way == 2 then
    local start, stop = header:find(random(2) == 1 and "'[^']*'" or "%b()", random(#header + 1))
    if not start then return header end
    local word = words[random(#words)]
    if header:sub(start, start) == "'" then word = "'" .. word .. "'" end
    return header:sub(1, start - 1) .. word .. header:sub(stop + 1)
  elseif way == 3 then
    local start, stop = header:find("%a+", random(#header + 1))
    return start and header:sub(1, start - 1) .. words[random(#words)] .. header:sub(stop + 1) or header
  end
  local place = random(#header + 1)
  return header:sub(1, place - 1) .. words[random(#words)] .. header:sub(place)
end

--- Another array: its header changed, with its length right, and often with as many bytes as it speaks of.
function numpy.mutate(bytes, longest, random, mutate_bytes)
  local low, high = bytes:byte(9, 10)
  local length = high and low + 256 * high
  if not length or 10 + length > #bytes or random(4) == 1 then return mutate_bytes(bytes, longest) end
  local header, data = changed(bytes:sub(11, 10 + length), random), bytes:sub(11 + length)
  if #header > 65535 then return mutate_bytes(bytes, longest) end
  local shape, size = header:match "%(([%d, ]*)%)", tonumber(header:match "'descr': '..(%d)'")
  if shape and size and random(8) > 1 then
    for count in shape:gmatch "%d+" do size = size * tonumber(count) end
    if size <= longest then data = data:sub(1, size) .. ("\1"):rep(size - #data) end
  end
  return bytes:sub(1, 8) .. string.char(#header % 256, math.floor(#header / 256)) .. header .. data
end

return numpy

--- .csv, tables of numbers: a line a row, commas between the columns, and names of the columns in the first line or
-- not.
local ffi = require "ffi"
local core = require "fp8.core"
local number_text = require "fp8.number_text"
local dtypes = core.dtypes

ffi.cdef "long long strtoll(const char *text, char **stop, int base);"

local csv = {options = {device = "device", dtype = true}, save_options = {names = "table"}}

local function fail(message, ...) error({message = message:format(...)}, 0) end

local byte_order_mark = "\239\187\191" -- of UTF-8, which some programs begin a file with

local function trimmed(text) return text:match "^%s*(.-)%s*$" end

-- The fields of a line. One in quotes may have commas, and quotes that are written twice.
local function fields_of(line, row)
  local fields, position = {}, 1
  repeat
    local quoted = line:match('^%s*"()', position)
    local field, stop
    if quoted then
      local text = line:sub(quoted):gsub('""', "\0") -- a line has no zeros
      local inside, rest = text:match '^([^"]*)"%s*()'
      if not inside then fail("row %d: a quote is not closed", row) end
      stop = quoted + rest - 1 + select(2, text:sub(1, rest - 1):gsub("%z", ""))
      field = inside:gsub("%z", '"')
      local after = line:sub(stop, stop)
      if after ~= "" and after ~= "," then fail("row %d: there is text after a quote", row) end
    else
      field, stop = line:match("^([^,]*)()", position)
      field = trimmed(field)
    end
    fields[#fields + 1], position = field, stop + 1
  until stop > #line
  return fields
end

local specials = {nan = 0 / 0, inf = 1 / 0, infinity = 1 / 0}

-- The number of a field: nil if it is none.
local function number_of(field)
  if field:find "^[+-]?%.?%d[%d.]*[eE]?[+-]?%d*$" then
    return tonumber((field:gsub("^%+", "")))
  end
  local sign, word = field:match "^([+-]?)(%a+)$"
  local special = word and specials[word:lower()]
  return special and (sign == "-" and -special or special)
end

-- Integers of 64 bits keep all of them.
local function exact(field, number)
  if math.abs(number) < 2^53 or not field:find "^[+-]?%d+$" then return number end
  return ffi.C.strtoll(field, nil, 10)
end

local function numbers_of(fields, row, columns, is_integer)
  if #fields ~= columns then fail("row %d has %d columns, the first one has %d", row, #fields, columns) end
  local numbers = {}
  for i, field in ipairs(fields) do
    local number = number_of(field)
    if not number then
      local shown = field == "" and "an empty field" or ("%q"):format(field:sub(1, 40))
      fail("row %d, column %d: %s is not a number", row, i, shown)
    end
    numbers[i] = is_integer and exact(field, number) or number
  end
  return numbers
end

local function has_names(fields)
  for _, field in ipairs(fields) do
    if not number_of(field) then return true end
  end
  return false
end

--- Reads a file that is open. Returns a tensor of rows and columns, and the list of the columns' names if there are
-- any.
function csv.read(file, _, options)
  local dtype = options.dtype or "f32"
  if not dtypes[dtype] then fail("option dtype must be the name of a dtype, got %s", tostring(dtype)) end
  local is_integer = dtypes[dtype].kind == "integer"
  local rows, row, columns, names = {}, 0, nil, nil
  local text, position = file:read "*a" or "", 1
  while position <= #text do
    local stop = text:find("\n", position, true) or #text + 1
    local line = text:sub(position, stop - 1)
    row, position = row + 1, stop + 1
    if line:find "%z" then fail("row %d has a zero byte: this is no text", row) end
    line = line:gsub("\r$", "")
    if line:find("\r", 1, true) then fail("row %d has a carriage return inside", row) end
    if row == 1 then line = line:gsub("^" .. byte_order_mark, "") end
    if line:find "%S" and not line:find "^#" then
      local fields = fields_of(line, row)
      if not columns and has_names(fields) then
        names, columns = fields, #fields
      else
        columns = columns or #fields
        rows[#rows + 1] = numbers_of(fields, row, columns, is_integer)
      end
    end
  end
  if not columns then fail "there are no rows" end
  if #rows == 0 then return core.empty({0, columns}, {dtype = dtype, device = options.device or "cpu"}), names end
  return core.tensor(rows, {dtype = dtype, device = options.device or "cpu"}), names
end

local single = ffi.new "float[2]"

-- A number as the shortest text that reads back as the same f32; an integer with all its digits.
local function text_of(number)
  if type(number) == "cdata" then return (tostring(number):gsub("LL$", "")) end
  if number == math.floor(number) and math.abs(number) < 2^24 then return ("%.0f"):format(number) end
  for digits = 6, 8 do
    local text = number_text(("%%.%dg"):format(digits), number)
    single[0], single[1] = tonumber(text) or 0, number
    if single[0] == single[1] then return text end
  end
  return number_text("%.9g", number)
end

local function quoted(name)
  if not name:find '[",%s#]' and not name:find(byte_order_mark, 1, true) and name ~= "" then return name end
  return '"' .. name:gsub('"', '""') .. '"'
end

local function header_of(names, columns)
  if #names ~= columns then fail("option names must have a name for each of the %d columns", columns) end
  local fields = {}
  for i, name in ipairs(names) do
    if type(name) ~= "string" or name:find "[\r\n%z]" then fail "option names must be a list of strings of one line" end
    fields[i] = quoted(name)
  end
  if not has_names(names) then fail "option names: names that are all numbers would be read as a row" end
  if fields[1]:find "^#" then fields[1] = '"' .. fields[1] .. '"' end
  return table.concat(fields, ",") .. "\n"
end

--- A function write(put) of a file of a tensor with one or two dimensions.
function csv.writer(tensor, options)
  if not core.is_tensor(tensor) then fail("a tensor expected, got %s", type(tensor)) end
  local rank = core.rank(tensor)
  if rank ~= 1 and rank ~= 2 then fail("a tensor of 1 or 2 dimensions expected, this one has %d", rank) end
  local is_long = core.dtype(tensor) == "i64" or core.dtype(tensor) == "i32"
  local columns = rank == 2 and core.size(tensor, 2) or 1
  local header = options.names and header_of(options.names, columns)
  return function(put)
    if header then put(header, #header) end
    for _, row in ipairs(core.totable(tensor)) do
      local fields = rank == 2 and row or {row}
      for i, number in ipairs(fields) do
        fields[i] = is_long and type(number) == "number" and ("%.0f"):format(number) or text_of(number)
      end
      local line = table.concat(fields, ",") .. "\n"
      put(line, #line)
    end
  end
end

return csv

--- Any value as text: tables as Lua that could be typed back, what is long or deep with a count of what was left out.
local core = require "fp8.core"
local later = require "fp8.later"
local number = require "fp8.printing.number"
local options = require "fp8.printing.options"
local shapes = require "fp8.shapes"

local deepest = 5          -- tables in one another
local most_elements = 16   -- of a list
local most_fields = 64     -- of a table
local small_tensor = 8     -- elements that are written out inside of a table
local longest_string = 400 -- characters inside of a table

local words = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true
  until while]]):gmatch "%a+" do words[word] = true end

local function is_name(key) return type(key) == "string" and key:find "^[%a_][%w_]*$" and not words[key] end

local escapes = {["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\\"] = "\\\\", ['"'] = '\\"'}

local function quoted(text)
  return '"' .. text:gsub('[%c\\"]', function(character)
    return escapes[character] or ("\\%03d"):format(character:byte())
  end) .. '"'
end

-- A tensor in a table: the call that makes it, where that is short.
local function tensor_text(x)
  if not pcall(core.shape, x) then return "a tensor that was freed" end
  local rank, dtype, device = core.rank(x), core.dtype(x), core.device(x)
  local maps = later "fp8.printing.map"
  local source = maps.is_map(x) and maps.source(x)
  if source then return device == "cpu" and source or ("%s:to %q"):format(source, device) end
  if rank > 1 or core.numel(x) > small_tensor then
    return ("tensor %s %s on %s"):format(dtype, shapes.text(core.shape(x)), device)
  end
  local values, texts = core.totable(x), {}
  if rank == 1 then
    for i, value in ipairs(values) do texts[i] = number.of_dtype(value, dtype) end
  end
  local text = rank == 0 and number.of_dtype(values, dtype) or ("{%s}"):format(table.concat(texts, ", "))
  local fields = {}
  if dtype ~= "f32" then fields[1] = ("dtype = %q"):format(dtype) end
  if device ~= "cpu" then fields[#fields + 1] = ("device = %q"):format(device) end
  if #fields == 0 and rank == 1 then return "fp8.tensor " .. text end
  return ("fp8.tensor(%s%s)"):format(text, #fields > 0 and (", {%s}"):format(table.concat(fields, ", ")) or "")
end

local function key_order(a, b)
  if type(a) ~= type(b) then return type(a) < type(b) end
  if type(a) == "string" or type(a) == "number" then return a < b end
  return tostring(a) < tostring(b)
end

-- Keys beside those of the list.
local function sorted_fields(value, length)
  local keys = {}
  for key in next, value do
    local listed = type(key) == "number" and key >= 1 and key <= length and key == math.floor(key)
    if not listed then keys[#keys + 1] = key end
  end
  table.sort(keys, key_order)
  return keys
end

local nested_text

local function key_text(key, state)
  return is_name(key) and key or ("[%s]"):format(nested_text(key, state, 0, deepest))
end

-- The parts of a table's text, and whether they are all numbers.
local function parts_of(value, state, depth)
  local parts, numbers, length = {}, true, #value
  local shown = length > most_elements and most_elements - 2 or length
  for i = 1, shown do
    local element = rawget(value, i)
    numbers = numbers and type(element) == "number"
    parts[i] = nested_text(element, state, 2 * depth + 2, depth + 1)
  end
  if shown < length then parts[#parts + 1] = ("… %d more"):format(length - shown) end
  local keys = sorted_fields(value, length)
  for i, key in ipairs(keys) do
    if i > most_fields then
      parts[#parts + 1] = ("… %d more fields"):format(#keys - most_fields)
      break
    end
    numbers = false
    local name = key_text(key, state)
    parts[#parts + 1] = ("%s = %s"):format(name, nested_text(rawget(value, key), state,
      2 * depth + 2 + #name + 3, depth + 1))
  end
  return parts, numbers
end

local function count(value)
  local fields = 0
  for _ in next, value do fields = fields + 1 end
  return fields
end

local function table_text(value, state, indent, depth)
  if next(value) == nil then return "{}" end
  if state.open[value] then return "{… itself}" end
  if depth >= deepest then return ("{… %d fields}"):format(count(value)) end
  state.open[value] = true
  local parts, numbers = parts_of(value, state, depth)
  state.open[value] = nil
  local line = ("{%s}"):format(table.concat(parts, ", "))
  if not line:find("\n", 1, true) and (numbers or indent + #line <= state.width) then return line end
  local margin = (" "):rep(2 * depth)
  return ("{\n%s  %s,\n%s}"):format(margin, table.concat(parts, (",\n%s  "):format(margin)), margin)
end

local function cut(text)
  if #text <= longest_string then return quoted(text) end
  return ("%s .. \"… %d more bytes\""):format(quoted(text:sub(1, longest_string)), #text - longest_string)
end

-- What has a text of its own, such as a module: its first line.
local function own_text(value)
  local text = tostring(value)
  return text:match "^(.-)\n" and text:match "^(.-)\n" .. " …" or text
end

function nested_text(value, state, indent, depth)
  local kind = type(value)
  if kind == "string" then return cut(value) end
  if kind == "number" then return number.text(value) end
  if core.is_tensor(value) then return tensor_text(value) end
  if kind ~= "table" then return tostring(value) end
  local metatable = getmetatable(value)
  if type(metatable) == "table" and metatable.__tostring and depth > 0 then return own_text(value) end
  return table_text(value, state, indent, depth)
end

--- fp8.text(value): a value as the prompt shows it. Tables are Lua that could be typed back, as far as there is Lua
-- for what is in them: maps are the calls that make them, large tensors their dtype, shape and device. Long lists, deep
-- tables and what has more fields than a screen are cut, with a count of what was left out.
--   fp8.text {format = "e4m3", scale = {128, 128}} --> '{format = "e4m3", scale = {128, 128}}'
--   fp8.text {fp8.create_map(true, 4, 3, 8)} --> "{fp8.create_map(true, 4, 3, 8)}"
return function(value)
  local metatable = getmetatable(value)
  if core.is_tensor(value) or type(value) == "table" and type(metatable) == "table" and metatable.__tostring then
    return tostring(value)
  end
  return nested_text(value, {open = {}, width = options.line_width()}, 0, 0)
end

--- Plain Lua values as JSON and back: strings, finite numbers to the last bit, booleans, and tables of them.
local json = require "fp8.files.json"
local is_utf8 = require("fp8.files.safetensors").is_utf8

local plain_text = {}

local deepest = 16 -- tables in one another

local decode = json.decoder(deepest + 1)

local function fail(message, ...) error({message = message:format(...)}, 0) end

local encode_value

local function encode_table(value, depth)
  if depth > deepest then fail("tables are nested more than %d deep, or contain themselves", deepest) end
  local count, parts = #value, {}
  for i = 1, count do parts[i] = encode_value(value[i], depth + 1) end
  local names = {}
  for key in pairs(value) do
    if type(key) == "string" then
      names[#names + 1] = key
    elseif type(key) ~= "number" or key < 1 or key > count or key ~= math.floor(key) then
      fail("a table has the key %s: strings, or the numbers from 1, are allowed", tostring(key))
    end
  end
  if #names == 0 and count > 0 then return "[" .. table.concat(parts, ",") .. "]" end
  if count > 0 then fail "a table has both names and numbers for keys" end
  table.sort(names)
  for _, name in ipairs(names) do
    parts[#parts + 1] = encode_value(name, depth) .. ":" .. encode_value(value[name], depth + 1)
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

function encode_value(value, depth)
  local kind = type(value)
  if kind == "string" then
    if not is_utf8(value) then fail("a string is not UTF-8: %q", value) end
    return json.encode_string(value)
  elseif kind == "number" then
    if value ~= value or value == math.huge or value == -math.huge then fail("%s is not a finite number", value) end
    return ("%.17g"):format(value)
  elseif kind == "boolean" then
    return tostring(value)
  elseif kind == "table" then
    return encode_table(value, depth)
  end
  fail("a %s is not a plain value", kind)
end

--- The text of a value; or nil and what is wrong with it. An empty table reads back as one.
function plain_text.encode(value)
  local ok, text = pcall(encode_value, value, 1)
  if ok then return text end
  if type(text) == "table" and text.message then return nil, text.message end
  error(text, 0)
end

--- The value of a text; nil if it is not JSON, or of a value that encode refuses: null, a number beyond all doubles.
function plain_text.decode(text)
  local value = decode(text)
  return value ~= nil and plain_text.encode(value) and value or nil
end

return plain_text

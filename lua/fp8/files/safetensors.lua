--- The header of a safetensors file (https://huggingface.co/docs/safetensors): a u64 length, then JSON that says dtype,
-- shape and place of every tensor; their bytes follow. Reading trusts nothing that the header says.
local core = require "fp8.core"
local dtypes = require("fp8.core").dtypes
local is_whole = require "fp8.is_whole"
local json = require "fp8.files.json"

local safetensors = {}

local largest_header = 100 * 1000 * 1000 -- bytes, as in the reference implementation
local largest_rank = 8
local deepest = 127 -- lists and objects in one another, in fields that nobody reads, as in the reference implementation

local decode = json.decoder(deepest)

-- By the name in a file: the dtype here and bytes of an element. bool is read as u8; f64 only by request.
local types = {BOOL = {dtype = "u8", bytes = 1}, F64 = {bytes = 8}}
local names = {} -- in a file, by dtype
for name, dtype in pairs(dtypes) do
  names[name] = (dtype.kind == "float8" and "F8_" or "") .. name:upper()
  types[names[name]] = {dtype = name, bytes = dtype.size}
end

-- A header can be long, and each of its strings; only the beginnings of long ones are shown.
local longest_shown = 200

local function fail(message, ...)
  local values = {...}
  for i, value in ipairs(values) do
    if type(value) == "string" and #value > longest_shown then values[i] = value:sub(1, longest_shown) .. "…" end
  end
  error({message = message:format(unpack(values))}, 0)
end

--- Whether text is well-formed UTF-8.
function safetensors.is_utf8(text)
  local position = text:find("[\128-\255]")
  while position do
    local first, second = text:byte(position, position + 1)
    local length = first >= 0xF0 and 3 or first >= 0xE0 and 2 or 1
    local valid = first >= 0xC2 and first <= 0xF4 and second and text:find("^[\128-\191]+", position + 1) and
      #text:match("^[\128-\191]+", position + 1) == length
    -- Longer than needed, a surrogate, or beyond U+10FFFF.
    if not valid or (first == 0xE0 and second < 0xA0) or (first == 0xED and second > 0x9F) or
      (first == 0xF0 and second < 0x90) or (first == 0xF4 and second > 0x8F) then
      return false
    end
    position = text:find("[\128-\255]", position + length + 1)
  end
  return true
end

-- Whether a JSON number is beyond all doubles. LuaJIT does not read those of very many digits, of the exponent or else.
local function is_infinite(number)
  local value = tonumber(number)
  if value then return math.abs(value) == math.huge end
  local whole, exponent = number:match "^%-?0*(%d*)", tonumber(number:match "[eE](.*)$" or 0)
  return number:find "^[^eE]*[1-9]" ~= nil and #whole + exponent > 308
end

-- Refuses numbers that the decoder takes but JSON does not have, such as "1.", and those beyond all doubles. `text` is
-- what is outside strings.
local function check_numbers(text)
  for number in text:gmatch "%-?%d[%w.+-]*" do
    local rest = number:match "^%-?%d+(.*)$"
    rest = rest:match "^%.%d+(.*)$" or rest
    if not (rest == "" or rest:find "^[eE][+-]?%d+$") or is_infinite(number) then
      fail("the header is not valid JSON: the number %s", number)
    end
  end
end

-- The string whose first quote is at `position`, and where it ends.
local function read_string(text, position)
  local stop = position
  repeat
    stop = text:find('["\\]', stop + 1)
    local escaped = text:byte(stop) == 92
    if escaped then stop = stop + 1 end
  until not escaped
  local quoted = text:sub(position, stop)
  if quoted:find "[\1-\31]" then
    fail("the header is not valid JSON: the string %s has the control character %d", quoted,
      quoted:match("[\1-\31]"):byte())
  end
  return quoted:find("\\", 1, true) and decode("[" .. quoted .. "]")[1] or quoted:sub(2, -2), stop
end

-- Checks a field of the header (depth 1) or of a tensor (depth 2), whose value begins at `start`.
local function check_field(text, tensor, depth, field, start)
  local opening = text:sub(start, start)
  if depth == 1 then
    local is_null = field == "__metadata__" and text:sub(start, start + 3) == "null"
    if opening ~= "{" and not is_null then fail("the header's field '%s' must be an object", field) end
  elseif tensor ~= "__metadata__" and (field == "shape" or field == "data_offsets") then
    if opening ~= "[" then fail("tensor '%s': %s must be a list", tensor, field) end
    for count in text:match("^[^%]]*", start + 1):gmatch "[^%s,]+" do
      if not count:find "^%d+$" then
        fail("tensor '%s': %s must hold whole numbers of at least 0, got %s", tensor, field, count)
      end
    end
  end
end

-- Fields that may not come twice, as it would not be clear which counts; of other fields the last one does.
local entry_fields = {dtype = true, shape = true, data_offsets = true}

-- What the decoder does not tell: fields that occur twice, whether {} or [] was written, how numbers were, and
-- characters that JSON forbids in strings. `text` is JSON but for these.
local function check_structure(text)
  local closing, levels, position = {["{"] = "}", ["["] = "]"}, {}, 1
  while true do
    local start = position
    position = text:find('["{}%[%]]', start)
    if not position then return end
    check_numbers(text:sub(start, position - 1))
    local character = text:sub(position, position)
    if closing[character] then
      levels[#levels + 1] = {is_object = character == "{", seen = {}}
    elseif character ~= '"' then
      levels[#levels] = nil
    else
      local field
      field, position = read_string(text, position)
      local level, value = levels[#levels], text:match("^%s*:%s*()", position + 1)
      if value and level.is_object and #levels <= 2 then
        local tensor = levels[1].field
        level.field = field
        if #levels == 1 or tensor ~= "__metadata__" and entry_fields[field] then
          if level.seen[field] then fail("the header has the field '%s' twice", field) end
          level.seen[field] = true
        end
        check_field(text, tensor, #levels, field, value)
      end
    end
    position = position + 1
  end
end

-- A list of counts, or an error.
local function read_counts(name, field, list)
  if type(list) ~= "table" then fail("tensor '%s': %s must be a list", name, field) end
  for key in pairs(list) do
    if type(key) ~= "number" then fail("tensor '%s': %s must be a list", name, field) end
  end
  for i = 1, #list do
    if not is_whole(list[i], 0) then
      fail("tensor '%s': %s must hold whole numbers of at least 0, got %s", name, field, tostring(list[i]))
    end
  end
  return list
end

local function read_entry(name, entry, options)
  if type(entry.dtype) ~= "string" then fail("tensor '%s': dtype must be a string", name) end
  local kind = types[entry.dtype]
  if not kind then fail("tensor '%s': dtype %s is not supported", name, entry.dtype) end
  local is_double = entry.dtype == "F64"
  if is_double and options.f64 ~= "f32" then
    fail('tensor \'%s\' has dtype F64, which is not supported; the option f64 = "f32" reads it as f32', name)
  end
  local shape = read_counts(name, "shape", entry.shape)
  if #shape > largest_rank then
    fail("tensor '%s' has %d dimensions: at most %d are supported", name, #shape, largest_rank)
  end
  local offsets = read_counts(name, "data_offsets", entry.data_offsets)
  if #offsets ~= 2 then fail("tensor '%s': data_offsets must be two numbers, got %d", name, #offsets) end
  local count, largest = 1, kind.bytes
  for i = 1, #shape do
    count, largest = count * shape[i], largest * math.max(shape[i], 1) -- a tensor without elements has strides too
  end
  if largest >= 2^53 then fail("tensor '%s': shape %s is too large", name, table.concat(shape, "x")) end
  if offsets[2] - offsets[1] ~= count * kind.bytes then
    fail("tensor '%s': %.0f bytes of %s are needed, its data_offsets hold %.0f", name, count * kind.bytes, entry.dtype,
      offsets[2] - offsets[1])
  end
  return {
    name = name, dtype = is_double and "f32" or kind.dtype, is_double = is_double, is_boolean = entry.dtype == "BOOL",
    shape = shape, count = count, start = offsets[1], bytes = count * kind.bytes,
  }
end

local function read_metadata(metadata)
  if metadata == json.null then return {} end
  for key, value in pairs(metadata) do
    if type(value) ~= "string" then
      fail("__metadata__ must hold strings, got %s for '%s'", type(value), tostring(key))
    end
  end
  return metadata
end

local function in_file_order(a, b)
  if a.start ~= b.start then return a.start < b.start end
  return a.bytes < b.bytes
end

--- The tensors that a header describes.
-- @param text       the header's JSON
-- @param data_bytes size of the file after the header
-- @param options    {f64 = "f32"} to accept double precision
-- @return list of {name =, dtype =, is_double =, is_boolean =, shape =, count =, start =, bytes =} in the order of
--   their bytes; the metadata. Errors are tables {message =}.
function safetensors.read_header(text, data_bytes, options)
  if not text:find "^[ \t\r\n]*{" then fail "the header is not a JSON object" end
  if text:find("%z") then fail("the header contains a zero byte") end
  if not safetensors.is_utf8(text) then fail("the header is not UTF-8") end
  local header, reason = decode(text)
  if not header then fail("the header is not valid JSON: %s", reason) end
  check_structure(text)
  local entries, metadata = {}, {}
  for name, entry in pairs(header) do
    if name == "__metadata__" then
      metadata = read_metadata(entry)
    else
      entries[#entries + 1] = read_entry(name, entry, options)
    end
  end
  table.sort(entries, in_file_order)
  local position = 0
  for _, entry in ipairs(entries) do
    if entry.start + entry.bytes > data_bytes then
      fail("tensor '%s' ends at byte %.0f of %.0f: the file is truncated or its header is wrong", entry.name,
        entry.start + entry.bytes, data_bytes)
    elseif entry.start < position then
      fail("tensor '%s' overlaps another one", entry.name)
    elseif entry.start > position then
      fail("%.0f bytes before tensor '%s' belong to no tensor", entry.start - position, entry.name)
    end
    position = position + entry.bytes
  end
  if position ~= data_bytes then fail("%.0f bytes after the last tensor belong to no tensor", data_bytes - position) end
  return entries, metadata
end

--- What other files begin with.
local others = {
  {"^PK[\3\5]", "a zip archive, such as torch.save and numpy.savez write"},
  {"^version https://git%-lfs", "a Git LFS pointer to the file, which 'git lfs pull' fetches"},
  {"^[\239\187\191]*%s*<[!?%a]", "an HTML or XML page"},
  {"^\128[\1-\5]", "a Python pickle, such as torch.save writes"},
  {"^\147NUMPY", "a NumPy array"}, {"^\137HDF\r\n", "an HDF5 file"}, {"^GGUF", "a GGUF file"},
  {"^\31\139\8", "compressed with gzip"}, {"^BZh%d", "compressed with bzip2"}, {"^\2537zXZ", "compressed with xz"},
  {"^\40\181\47\253", "compressed with zstd"}, {"^[\239\187\191]*%s*[{%[][%s\"{}%[%]%d]", "JSON text"},
  {"^[%g\r\n\t ]+$", "text"},
}

-- An error about a file that begins so and is of another kind: what it seems to be, or else how that is known.
local function refuse(start, reason, ...)
  for _, other in ipairs(others) do
    if start:find(other[1]) then fail("not a safetensors file: it seems to be %s", other[2]) end
  end
  fail("not a safetensors file: " .. reason, ...)
end

safetensors.start_bytes = 256 -- that read_length should see

--- The length of a header.
-- @param start      the first bytes of the file, at least 8
-- @param file_bytes size of the file
function safetensors.read_length(start, file_bytes)
  local length = 0
  for i = 8, 1, -1 do length = length * 256 + start:byte(i) end
  local first, is_larger = start:sub(9, 8 + length):match "[^ \t\r\n]", length > file_bytes - 8
  if first and first ~= "{" then refuse(start, "its header does not begin with {") end
  if length > largest_header then
    if is_larger then refuse(start, "its header would have %.0f bytes, the file has %.0f", length, file_bytes) end
    fail("a header of %.0f bytes is too large: at most %d are supported", length, largest_header)
  elseif is_larger then
    fail("the header has %.0f bytes, the file %.0f: it is truncated, or not a safetensors file", length, file_bytes)
  end
  return length
end

local function check_text(what, text)
  if type(text) ~= "string" then fail("%s must be a string, got %s", what, type(text)) end
  if not safetensors.is_utf8(text) then fail("%s is not UTF-8: %q", what, text) end
end

-- Numbers are no strings: which digits of them to keep is for the script to say.
local function check_metadata(key, value)
  if type(value) == "number" or type(value) == "boolean" then
    fail("metadata '%s' must be a string, got %s: write tostring(value)%s", key, type(value),
      type(value) == "number" and ' or ("%.17g"):format(value), which keeps all its digits' or "")
  end
  check_text(("metadata '%s'"):format(key), value)
end

-- Before copies of the texts are made: they may be longer than a header can be.
local function check_length(bytes)
  if bytes > largest_header then
    fail("a header of %.0f bytes is too large: names and metadata may have %d", bytes, largest_header)
  end
end

local function sorted_keys(map, what)
  local keys = {}
  for key in pairs(map) do
    check_text(what, key)
    keys[#keys + 1] = key
  end
  table.sort(keys)
  return keys
end

-- Wider elements first, which keeps every tensor aligned without gaps; then by name.
local function in_storage_order(a, b)
  if a.width ~= b.width then return a.width > b.width end
  return a.name < b.name
end

--- The bytes before the tensors' own, and the order in which those follow.
-- @param tensors    table of tensors by name
-- @param metadata   table of strings by name, or nil
-- @param is_boolean says of a tensor of dtype u8 whether it is to be BOOL
-- @return length and header, padded so that the data starts at a multiple of 8; list of {tensor =, bytes =}
function safetensors.write_header(tensors, metadata, is_boolean)
  local fields, entries, least = {}, {}, 0
  for key, value in pairs(metadata or {}) do
    if type(value) == "string" then least = least + #tostring(key) + #value end
  end
  check_length(least)
  if metadata and next(metadata) ~= nil then
    local pairs_text = {}
    for _, key in ipairs(sorted_keys(metadata, "a metadata key")) do
      check_metadata(key, metadata[key])
      local name, value = json.encode_string(key), json.encode_string(metadata[key])
      pairs_text[#pairs_text + 1] = name .. ":" .. value
    end
    fields[1] = '"__metadata__":{' .. table.concat(pairs_text, ",") .. "}"
  end
  for _, name in ipairs(sorted_keys(tensors, "the name of a tensor")) do
    if name == "__metadata__" then fail("a tensor can't be called __metadata__") end
    if not core.is_tensor(tensors[name]) then fail("'%s' must be a tensor, got %s", name, type(tensors[name])) end
    entries[#entries + 1] = {name = name, tensor = tensors[name], width = dtypes[core.dtype(tensors[name])].size}
  end
  table.sort(entries, in_storage_order)
  local ordered, position = {}, 0
  for i, entry in ipairs(entries) do
    local stop = position + core.numel(entry.tensor) * entry.width
    local dtype = is_boolean(entry.tensor) and "BOOL" or names[core.dtype(entry.tensor)]
    fields[#fields + 1] = ('%s:{"dtype":"%s","shape":[%s],"data_offsets":[%.0f,%.0f]}'):format(
      json.encode_string(entry.name), dtype, table.concat(core.shape(entry.tensor), ","), position, stop)
    ordered[i], position = {tensor = entry.tensor, bytes = stop - position}, stop
  end
  local text = "{" .. table.concat(fields, ",") .. "}"
  text = text .. (" "):rep(-#text % 8)
  check_length(#text)
  local bytes, length = {}, #text
  for i = 1, 8 do
    bytes[i] = string.char(length % 256)
    length = math.floor(length / 256)
  end
  return table.concat(bytes) .. text, ordered
end

return safetensors
